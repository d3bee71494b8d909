"""Packages at work on tiny models, where their environments are at hand (mixes: tests/unit/test_static_mix.py)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ramp.methods.kinds import Package
from ramp.methods.loader import discover
from ramp.models.architecture import list_linears
from ramp.packages import prepare_job as package_job
from ramp.packages import record_row as package_row
from ramp.rows.checkpoint import load_dequantized
from tests.model_folders import load_float, read_config
from tests.sealed import read_json
from tests.tiny_models import random_llama, write_letters

REPO = Path(__file__).resolve().parents[2]
CATALOG = discover(REPO / "baselines")
PACKAGES = {name: CATALOG.reference(name) for name, each in CATALOG.methods.items() if isinstance(each, Package)}
GROUP, TOKENS, LENGTH = 64, 32_768, 256


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers with rows in whole blocks of 64, which packages ask for, and long enough for K-quants."""
    return random_llama(tmp_path_factory.mktemp("models") / "tiny", hidden_size=256, intermediate_size=512)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibration documents of nonsense."""
    return write_letters(tmp_path_factory.mktemp("text") / "calibration.jsonl", 60_000)


def made_row(name: str, bits: int, group_size: int, model_dir: Path, text: Path, folder: Path) -> dict[str, Any]:
    """Run a package in its environment and pack what it hands over into ``folder``/row; return the environment."""
    method = CATALOG[name]
    assert isinstance(method, Package)
    marker = REPO / ".envs" / method.env_name / "environment.json"
    if not marker.is_file() or not read_json(marker)["ok"]:
        pytest.skip(f"{name} was not run: make .envs/{method.env_name} first (snakemake baselines_external)")
    job = folder / "job"
    line = ["--model-dir", str(model_dir), "--text", str(text), "--tokens", str(TOKENS), "--length", str(LENGTH)]
    line += ["--method-file", str(PACKAGES[name]), "--environment", str(marker), "--bits", str(bits)]
    line += ["--group-size", str(group_size), "--threads", "1", "--device", "cpu", "--out", str(job)]
    assert package_job.main(line) == 0
    outcome = read_json(job / "outcome.json")
    assert outcome["ok"], outcome["reason"]
    line = ["--model-dir", str(model_dir), "--job", str(job), "--study", "s", "--out", str(folder / "row")]
    assert package_row.main(line) == 0
    return read_json(marker)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_quantizes_a_tiny_model(name: str, model_dir: Path, text: Path, tmp_path: Path) -> None:
    """In its own environment, at 4 bits where it has them: every linear comes back, near the float model's output."""
    method = CATALOG[name]
    assert isinstance(method, Package)
    if reason := method.skip():
        pytest.skip(f"{name} was not run: {reason}")
    made_row(name, 4 if 4 in method.bits else max(method.bits), GROUP, model_dir, text, tmp_path)
    meta = read_json(tmp_path / "row" / "meta.json")
    assert not meta.get("failed"), meta["failed"]
    assert 0 < meta["bytes_file"] < sum(file.stat().st_size for file in model_dir.glob("*.safetensors"))
    check_outputs(model_dir, tmp_path / "row")


def check_outputs(model_dir: Path, row: Path) -> None:
    """The row's logits resemble the float model's: codes that were unpacked wrongly give others altogether."""
    tokens = torch.arange(2, 66)[None]
    with torch.inference_mode():
        ours = load_dequantized(row, model_dir)(tokens).logits.flatten().double()
        theirs = load_float(model_dir)(tokens).logits.flatten().double()
    assert float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1]) > 0.8


DEQUANTIZE = """
import os, sys, torch
os.environ["GPTQMODEL_CPU_WORKERS"] = "2"
from gptqmodel import BACKEND, GPTQModel
from safetensors.torch import save_file
model = GPTQModel.load(sys.argv[1], device="cpu", backend=BACKEND(sys.argv[3]), dtype=torch.float16)
found = {}
for name, module in model.model.named_modules():
    if hasattr(module, "qweight"):
        if hasattr(module, "dequantize_weight"):
            weight = module.dequantize_weight().T
        else:
            weight = module(torch.eye(module.in_features, dtype=torch.float16)).T
        found[name] = weight.contiguous()
save_file(found, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend", "bits"),
    [("gptqmodel_gptq", "gptq_torch", 3), ("gptqmodel_gptq", "gptq_torch", 4), ("gptqmodel_awq", "torch_awq", 4)],
)
def test_a_row_is_the_packages_own_model(name: str, backend: str, bits: int, text: Path, tmp_path: Path) -> None:
    """Rows in groups of 64 and of 128, with outputs in whole blocks of 64, which gptqmodel needs."""
    shape = {"hidden_size": 192, "intermediate_size": 256, "num_attention_heads": 6}
    folder = random_llama(tmp_path / "model", tied=False, **shape)
    environment = made_row(name, bits, 128, folder, text, tmp_path)
    (tmp_path / "dequantize.py").write_text(DEQUANTIZE)
    native, out = tmp_path / "job" / "native" / "model", tmp_path / "theirs.safetensors"
    command = [environment["python"], str(tmp_path / "dequantize.py"), str(native), str(out), backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs, ours = load_file(out), load_dequantized(tmp_path / "row", folder)
    assert set(theirs) == {spec.name for spec in list_linears(read_config(folder))}
    for linear, weight in theirs.items():  # the package multiplies in its own precision: one rounding of the product
        found = ours.get_submodule(linear).weight.to(weight.dtype)
        torch.testing.assert_close(found, weight, rtol=0, atol=0, msg=linear)
