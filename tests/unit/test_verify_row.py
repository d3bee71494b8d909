"""A row of an archive is evaluated again with the study's weights, and refused with other weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ramp.archive.__main__ import archive
from ramp.archive.verify import main as verify
from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.evaluation.__main__ import main as evaluation
from ramp.records.collect import record_row, window_rows
from ramp.records.table import write_tables
from tests.rows import write_row
from tests.sealed import read_json
from tests.tiny_models import write_text

ROW = "rtn-b3-s0"


def run(*options: object) -> None:
    assert cli.run(evaluation, [*(str(option) for option in options), "--device", "cpu"]) == 0


@pytest.fixture(scope="module")
def study(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Results of one row, its archive, and the model's name."""
    results = tmp_path_factory.mktemp("study") / "results"
    model = tiny_llama_dir.name
    shutil.copytree(tiny_llama_dir, results / "models" / model)
    text = results / "texts" / "heldout.jsonl"
    text.parent.mkdir()
    write_text(text, "River stone, green house; light under paper and 7 plants. ", 100)
    reference = results / "reference" / model / "heldout.safetensors"
    place = ["--model-dir", results / "models" / model]
    run("reference", *place, "--text", f"heldout={text}", "--length", 64, "--windows", 4, "--out", reference)
    row = results / "quantized" / model / ROW
    row.parent.mkdir(parents=True)
    write_row(row, tiny_llama_dir, "fp16", 3, wall_s=1.5, simulated=True)
    out = results / "metrics" / model / f"{ROW}.json"
    run("row", "--row-dir", row, *place, "--reference", f"heldout={reference}", "--out", out)
    metrics = read_json(out)
    write_tables(results / "records", {"records": [record_row(metrics, None, {})], "windows": window_rows(metrics)})
    write_json(results / "config.json", {"study": "x", "threads": 1, "device": "cpu", "reproducible": True})
    archive(results, results / "archive.zip")
    return results, results / "archive.zip", f"{metrics['key']['model']}/{ROW}"


def test_a_row_is_evaluated_again(study: tuple[Path, Path, str], capsys: pytest.CaptureFixture) -> None:
    results, file, row = study
    assert cli.run(verify, [str(file), "--row", row]) == 0
    assert "the model was not run" in capsys.readouterr().out
    assert cli.run(verify, [str(file), "--row", row, "--results", str(results)]) == 0
    told = capsys.readouterr().out
    assert "the model was run" in told
    assert told.count("_heldout: ") == 2  # KL and perplexity: the first evaluation ran in this process's own arithmetic
    assert "DISAGREES" not in told


def test_other_weights_are_refused(
    study: tuple[Path, Path, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results, file, row = study
    other = shutil.copytree(results, tmp_path / "other")
    with (other / "quantized" / row / "model.safetensors").open("ab") as stream:
        stream.write(b"\0")
    assert cli.run(verify, [str(file), "--row", row, "--results", str(other)]) == 2
    assert "is not the file whose sha256" in capsys.readouterr().err
    shutil.rmtree(other / "quantized")
    assert cli.run(verify, [str(file), "--row", row, "--results", str(other)]) == 2
