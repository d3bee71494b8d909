"""The benchmark of one checkout beside another."""

import json
from pathlib import Path

import pytest

from benchmarks import against
from benchmarks.measure import Sample
from ramp.models.folder import ModelFolder
from tests.tiny_models import write_text

REPO = Path(__file__).resolve().parents[2]


def test_ratios_are_of_pairs() -> None:
    ours, reference = ([Sample(seconds, 0) for seconds in times] for times in ([1, 2, 9], [2, 4, 3]))
    assert against.spread(ours, reference) == (0.5, 0.5, 3.0)


def test_a_model_is_cut_to_its_first_blocks(tiny_llama_dir: Path, tmp_path: Path) -> None:
    whole, cut = ModelFolder(tiny_llama_dir), ModelFolder(against.cut(tiny_llama_dir, 1, tmp_path / "cut"))
    cut.check()
    assert cut.linears == [linear for linear in whole.linears if linear.layer == 0]


def test_two_checkouts_by_turns(tiny_llama_dir: Path, tmp_path: Path) -> None:
    text, out = write_text(tmp_path / "text.jsonl", "some words of text "), tmp_path / "out.json"
    words = (
        f"{REPO} --model-dir {tiny_llama_dir} --text {text} --tokens 64 --stages calibration --repeats 2 --out {out}"
    )
    assert against.main(words.split()) == 0
    [found] = json.loads(out.read_text())["rows"]
    assert "results equal" in found["note"]
    assert found["ratio"] == pytest.approx(found["ours"] / found["reference"])
