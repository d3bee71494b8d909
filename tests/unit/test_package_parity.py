"""Where a package's environment is at hand: our row against the weights that the package itself de-quantizes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ramp.core.files import read_json
from ramp.models.architecture import list_linears
from ramp.models.token_windows import Document, write_documents
from ramp.packages import prepare_job as package_job
from ramp.packages import record_row as package_row
from ramp.rows.checkpoint import load_dequantized
from tests.conftest import SHAPE, save_random_model, save_tokenizer
from tests.model_folders import read_config

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = REPO / ".envs" / "gptqmodel" / "environment.json"
READY = ENVIRONMENT.is_file() and read_json(ENVIRONMENT)["ok"]

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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not READY, reason="no .envs/gptqmodel: snakemake baselines_external makes it"),
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers whose rows take groups of 64 and of 128, with outputs in whole blocks of 64, which gptqmodel needs."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("small-llama")
    shape = {**SHAPE, "hidden_size": 192, "intermediate_size": 256, "num_attention_heads": 6}
    size = save_tokenizer(folder)
    config = LlamaConfig(vocab_size=size, bos_token_id=1, eos_token_id=0, tie_word_embeddings=False, **shape)
    return save_random_model(folder, config, seed=3)


@pytest.mark.parametrize(
    ("method", "backend", "bits"),
    [("gptqmodel_gptq", "gptq_torch", 3), ("gptqmodel_gptq", "gptq_torch", 4), ("gptqmodel_awq", "torch_awq", 4)],
)
def test_a_row_is_the_packages_own_model(model_dir: Path, tmp_path: Path, method: str, backend: str, bits: int) -> None:
    words = np.random.default_rng(0).choice(list("abcdefghij "), 60_000)
    write_documents(tmp_path / "text.jsonl", [Document("d", "".join(words))])
    job, row = tmp_path / "job", tmp_path / "row"
    line = ["--model-dir", str(model_dir), "--text", str(tmp_path / "text.jsonl"), "--tokens", "32768"]
    line += ["--length", "256", "--method-file", str(REPO / "baselines" / f"{method}.py"), "--bits", str(bits)]
    line += ["--environment", str(ENVIRONMENT), "--group-size", "128", "--threads", "1", "--device", "cpu"]
    assert package_job.main([*line, "--out", str(job)]) == 0
    outcome = read_json(job / "outcome.json")
    assert outcome["ok"], outcome["reason"]
    row_line = ["--model-dir", str(model_dir), "--job", str(job), "--study", "s", "--out", str(row)]
    assert package_row.main(row_line) == 0

    (tmp_path / "dequantize.py").write_text(DEQUANTIZE)
    python = json.loads(ENVIRONMENT.read_text())["python"]
    theirs_file = tmp_path / "theirs.safetensors"
    command = [python, str(tmp_path / "dequantize.py"), str(job / "native" / "model"), str(theirs_file), backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs, ours = load_file(theirs_file), load_dequantized(row, model_dir)
    specs = list_linears(read_config(model_dir))
    assert set(theirs) == {spec.name for spec in specs}
    for spec in specs:  # the package multiplies in its own precision: at most one rounding of the exact product
        weight = ours.get_submodule(spec.name).weight
        torch.testing.assert_close(weight.to(theirs[spec.name].dtype), theirs[spec.name], rtol=0, atol=0, msg=spec.name)
