"""Packages and static mixes at work on a tiny model: where the package's environment, or llama.cpp, is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ramp.core.files import read_json
from ramp.export.llamacpp_quantize import missing
from ramp.methods.kinds import Mix, Package, reason_not_to_run
from ramp.methods.loader import discover
from ramp.models.token_windows import Document, write_documents
from ramp.packages import prepare_job as package_job
from ramp.packages import record_row as package_row
from ramp.rows.checkpoint import load_dequantized
from tests.conftest import SHAPE, save_random_model, save_tokenizer
from tests.model_folders import load_float

REPO = Path(__file__).resolve().parents[2]
CATALOG = discover(REPO / "baselines")
PACKAGES = {name: CATALOG.reference(name) for name, each in CATALOG.methods.items() if isinstance(each, Package)}
MIXES = {name: CATALOG.reference(name) for name, each in CATALOG.methods.items() if isinstance(each, Mix)}
GROUP, TOKENS, LENGTH = 64, 16_384, 256


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers with rows in whole blocks of 64, which packages ask for, and long enough for K-quants."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("models") / "tiny"
    size = save_tokenizer(folder)
    shape = {**SHAPE, "hidden_size": 256, "intermediate_size": 512}
    config = LlamaConfig(vocab_size=size, bos_token_id=1, eos_token_id=0, tie_word_embeddings=True, **shape)
    return save_random_model(folder, config, seed=3)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibration documents of nonsense."""
    path = tmp_path_factory.mktemp("text") / "calibration.jsonl"
    words = np.random.default_rng(0).choice(list("abcdefghij "), 40_000)
    write_documents(path, [Document("d", "".join(words))])
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_quantizes_a_tiny_model(name: str, model_dir: Path, text: Path, tmp_path: Path) -> None:
    """In its own environment, at 4 bits where it has them: every linear comes back, near the float model's output."""
    method = CATALOG[name]
    assert isinstance(method, Package)
    if reason := method.skip():
        pytest.skip(f"{name} was not run: {reason}")
    environment = REPO / ".envs" / method.env_name / "environment.json"
    if not environment.is_file():
        pytest.skip(f"{name} was not run: make .envs/{method.env_name} first (snakemake baselines_external)")
    job, row = tmp_path / "job", tmp_path / "row"
    bits = 4 if 4 in method.bits else max(method.bits)
    line = ["--model-dir", str(model_dir), "--text", str(text), "--tokens", str(TOKENS), "--length", str(LENGTH)]
    line += ["--method-file", str(PACKAGES[name]), "--environment", str(environment), "--bits", str(bits)]
    line += ["--group-size", str(GROUP), "--threads", "1", "--device", "cpu", "--out", str(job)]
    assert package_job.main(line) == 0
    outcome = read_json(job / "outcome.json")
    assert outcome["ok"], outcome["reason"]
    assert package_row.main(["--model-dir", str(model_dir), "--job", str(job), "--study", "s", "--out", str(row)]) == 0
    meta = read_json(row / "meta.json")
    assert not meta.get("failed"), meta["failed"]
    assert 0 < meta["bytes_file"] < sum(file.stat().st_size for file in model_dir.glob("*.safetensors"))
    check_outputs(model_dir, row)


def check_outputs(model_dir: Path, row: Path) -> None:
    """The row's logits resemble the float model's: codes that were unpacked wrongly give others altogether."""
    import torch

    tokens = torch.arange(2, 66)[None]
    with torch.inference_mode():
        ours = load_dequantized(row, model_dir)(tokens).logits.flatten().double()
        theirs = load_float(model_dir)(tokens).logits.flatten().double()
    assert float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1]) > 0.8


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_makes_a_row_of_a_tiny_model(name: str, model_dir: Path, tmp_path: Path) -> None:
    """By llama.cpp itself; a random importance matrix where it takes one."""
    from ramp.export.static_mix import MixRow, make_row
    from ramp.export.write import export
    from tests.gguf_inputs import statistics

    if reason := reason_not_to_run(CATALOG[name]) or missing():  # type: ignore[arg-type]  # a Mix
        pytest.skip(f"{name} was not run: {reason}")
    export(model_dir, tmp_path / "float.gguf")
    calibration = statistics(model_dir, tmp_path / "calibration.safetensors")
    row = MixRow(model_dir, tmp_path / "float.gguf", calibration, track="q8_0", study="s", seed=0)
    meta = make_row(MIXES[name], row, tmp_path / "row")
    assert not meta.get("failed"), meta["failed"]
    assert meta["bytes_file"] == (tmp_path / "row" / "model.gguf").stat().st_size
    check_outputs(model_dir, tmp_path / "row")
