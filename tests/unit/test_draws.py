"""Draws of calibration text: other documents, order and windows by a seed; without one everything is as it was."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from ramp.core.errors import RampError
from ramp.core.tensor_file import save_tensors
from ramp.models.token_windows import Document, TextError, token_windows, write_documents
from tests.refusals import refused
from tests.sealed import read_json

FIRST = 0x4E00  # of a range of letters without other meaning


class Letters:
    """A tokenizer whose tokens are code points."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty documents of fifty letters; a letter says which document it is of."""
    path = tmp_path_factory.mktemp("text") / "t.jsonl"
    write_documents(path, [Document(f"d-{i}", chr(FIRST + i) * 50) for i in range(40)])
    return path


windows = partial(token_windows, Letters(), length=20, count=12)


def test_draw_0_is_the_text_as_it_stands(file: Path) -> None:
    tokens = [ord(letter) for letter in "\n\n".join(chr(FIRST + i) * 50 for i in range(40))]
    starts = [i * (len(tokens) - 20) // 11 for i in range(12)]
    expected = torch.tensor([tokens[start : start + 20] for start in starts])
    assert torch.equal(windows(file), expected)
    assert torch.equal(windows(file, draw=0), expected)


def test_a_draw_changes_documents_and_order_and_comes_again(file: Path) -> None:
    found = {draw: windows(file, draw=draw) for draw in range(4)}
    for draw, one in found.items():
        assert one.shape == (12, 20)
        assert torch.equal(one, windows(file, draw=draw))
    documents = {draw: one[:, 0][one[:, 0] >= FIRST].tolist() for draw, one in found.items()}
    assert documents[0] == sorted(documents[0])
    for draw in (1, 2, 3):
        assert documents[draw] != sorted(documents[draw]), "shuffled"
        assert set(documents[draw]) != set(documents[0]), "others"
    assert documents[1] != documents[2]


@settings(max_examples=40)
@given(draw=st.integers(1, 10_000), length=st.integers(1, 40), count=st.integers(1, 50))
def test_drawn_windows_are_of_the_text_and_never_overlap(file: Path, draw: int, length: int, count: int) -> None:
    drawn = token_windows(Letters(), file, length=length, count=count, draw=draw)
    letters = drawn[drawn >= FIRST].tolist()
    assert drawn.shape == (count, length)
    assert max(map(letters.count, letters), default=0) <= 50, "no letter of a document is taken twice"


def test_a_draw_is_no_negative_number(file: Path) -> None:
    refused(TextError, {"draw -1": partial(windows, file, draw=-1)})


@pytest.fixture
def inputs(tiny_llama_dir: Path, tmp_path: Path) -> list[str]:
    """A model, a calibration text of many short documents and a fold that changes nothing."""
    words = "heron reed water slow dusk over wind mill quiet boats lay moss".split()
    documents = [Document(f"d-{i}", f"{words[i % 12]} {words[i % 7]} {words[i % 5]} " * 8) for i in range(60)]
    write_documents(tmp_path / "c.jsonl", documents)
    save_tensors(tmp_path / "none.safetensors", {}, {"kind": "none"})
    return ["--model-dir", str(tiny_llama_dir), "--text", str(tmp_path / "c.jsonl"), "--length", "64"]


def made(stage: str, out: Path, *words: str) -> Path:
    assert import_module(stage).main([*words, "--out", str(out)]) == 0
    return out


def test_a_draw_reaches_every_stage_that_reads_calibration_text(inputs: list[str], tmp_path: Path) -> None:
    """``--draw 0`` writes the bytes of no draw at all; another draw other statistics, scales, codes and losses."""
    calibrated = [*inputs, "--tokens", "512"]
    fold = ["--fold", str(tmp_path / "none.safetensors")]
    bank = [*calibrated, *fold, "--widths", "3", "--group-size", "64"]
    (tmp_path / "m.py").write_text(
        "from ramp.methods.kinds import GptqParams, Quantizer\n"
        "METHOD = Quantizer(name='m', title='', source='', fold='none', quantizer='gptq', params=GptqParams)\n"
    )
    row = [*calibrated, *fold, "--method-file", str(tmp_path / "m.py"), "--bits", "3", "--group-size", "64"]
    stages = {
        "ramp.calibration.__main__": (calibrated, ""),
        "ramp.calibration.fold_search": ([*calibrated, "--kind", "awq", "--bits", "3", "--group-size", "64"], ""),
        "ramp.bank.__main__": (bank, "bank.safetensors"),
        "ramp.rows.quantize": (row, "model.safetensors"),
    }
    for stage, (words, file) in stages.items():
        out = {name: tmp_path / f"{stage}-{name}" for name in ("plain", "0", "1")}
        made(stage, out["plain"], *words)
        for draw in ("0", "1"):
            made(stage, out[draw], *words, "--draw", draw)
        plain, same, other = (path / file if file else path for path in out.values())
        assert plain.read_bytes() == same.read_bytes(), stage
        ours, theirs = load_file(plain), load_file(other)
        assert ours.keys() == theirs.keys()
        assert any(not torch.equal(ours[name], theirs[name]) for name in ours), stage
    rows = [read_json(tmp_path / f"ramp.rows.quantize-{name}" / "meta.json") for name in ("0", "1")]
    assert [meta.get("draw") for meta in rows] == [None, 1]
    files = made("ramp.bank.__main__", tmp_path / "bank", *bank)
    sensitivity = [*inputs, "--bank", str(files), *fold, "--windows", "4"]
    losses = [read_json(made("ramp.sensitivity.__main__", tmp_path / f"s{i}", *sensitivity, *draw)) for i, draw in
              enumerate(([], ["--draw", "0"], ["--draw", "1"]))]  # fmt: skip
    assert losses[0] == losses[1]
    assert losses[0]["linears"] != losses[2]["linears"]


def test_a_draw_that_is_no_seed_ends_in_a_sentence(inputs: list[str], tmp_path: Path) -> None:
    with pytest.raises(RampError, match="draw -2"):
        import_module("ramp.calibration.__main__").main([*inputs, "--draw", "-2", "--out", str(tmp_path / "x")])
