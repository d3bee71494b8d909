"""From a package to a row: a tiny package of our own, run by this interpreter, packed, loaded and scored."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ramp.calibration.windows import calibration_windows
from ramp.core.atomic_files import write_json
from ramp.core.tensors import load_tensors
from ramp.evaluation import __main__ as evaluation_stage
from ramp.evaluation.metrics import metrics
from ramp.methods.package_job import LINEARS, read_linear
from ramp.models.architecture import list_linears
from ramp.packages import package_environment as package_env
from ramp.packages import prepare_job as package_job
from ramp.packages import record_row as package_row
from ramp.quantizers.affine import quantize_rtn
from ramp.records.collect import record_row
from ramp.records.collect_layers import reported_rows
from ramp.records.intermediate_digests import DIGITS, content_digest
from ramp.rows.checkpoint import CheckpointError, load_dequantized
from tests.model_folders import load_float, read_config
from tests.sealed import read_json
from tests.tiny_models import write_letters

BITS, GROUP, LENGTH, TOKENS = 3, 32, 32, 64

PACKAGE = '''
"""Round to nearest through numpy alone: what a package's file looks like."""
import os, signal
import numpy as np
from pydantic import Field
from ramp.methods.kinds import Package, Params
from ramp.methods.package_job import PackageJob

class Mine(Params):
    how: str = Field(default="affine", description="what to hand over, or how to fail")

def quantize(job, params):
    if params.how == "raise":
        raise RuntimeError("no kernel\\nfor this processor; sorry")
    if params.how == "assert":
        assert job.bits > 8
    if params.how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if params.how == "exit":
        raise SystemExit("usage: something")
    from safetensors import safe_open
    assert job.tokens.dtype == np.int64
    np.save(job.work_dir / "tokens.npy", job.tokens)
    job.native("tokens.npy")
    job.note("a shim")
    top = 2**job.bits - 1
    with safe_open(str(job.model_dir / "model.safetensors"), framework="np") as handle:
        for name, (d_out, d_in) in job.linears.items():
            if params.how == "forget" and name.endswith("down_proj"):
                continue
            size = job.group_sizes[name]
            groups = handle.get_tensor(name + ".weight").reshape(d_out, -1, size)
            low, high = groups.min(-1).clip(max=0), groups.max(-1).clip(min=0)
            scales = ((high - low) / top).astype(np.float16)
            wide = scales.astype(np.float32)
            zeros = np.rint(-low / wide).clip(0, top)
            codes = (np.rint(groups / wide[..., None]) + zeros[..., None]).clip(0, top).reshape(d_out, d_in)
            if params.how == "dense" and name.endswith("down_proj"):
                weight = (codes.reshape(groups.shape) - zeros[..., None]) * wide[..., None]
                job.keep_dense(name, weight.reshape(d_out, d_in).astype(np.float32), packed_bytes=1000)
            else:
                job.keep(name, codes, scales, zeros, size)
        if params.how == "norm":
            job.keep_other("model.norm.weight", 2 * handle.get_tensor("model.norm.weight"))
        if params.how == "stranger":
            job.keep_other("model.stranger.weight", np.ones(3))

METHOD = Package(name="mine", title="Mine", source="here", quantize=quantize, params=Mine,
                 requirements=("numpy==2.4.6",), bits=(3, 4)SKIP)
'''


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibration documents of nonsense."""
    return write_letters(tmp_path_factory.mktemp("text") / "calibration.jsonl", 4000)


@pytest.fixture
def ask(tiny_llama_dir: Path, text: Path, tmp_path: Path):
    """Run the whole way for one job; returns the folder of the job and that of the row."""

    def once(
        how: str = "affine",
        *more: str,
        skip: str = "",
        environment: dict[str, Any] | None = None,
        bits: int = BITS,
    ):
        method, marker = tmp_path / "mine.py", tmp_path / "environment.json"
        method.write_text(PACKAGE.replace("SKIP", f", skip=lambda: {skip!r}" if skip else ""))
        write_json(marker, environment or {"ok": True, "python": sys.executable})
        job, row = tmp_path / f"job-{how}", tmp_path / f"row-{how}"
        line = (
            f"--text {text} --tokens {TOKENS} --length {LENGTH} --method-file {method} --environment {marker}".split()
        )
        line += f"--model-dir {tiny_llama_dir} --bits {bits} --group-size {GROUP} --threads 1 --device cpu".split()
        line += ["--params", json.dumps({"how": how})]
        assert package_job.main([*line, "--out", str(job)]) == 0
        row_line = ["--model-dir", str(tiny_llama_dir), "--job", str(job), "--study", "s", "--out", str(row)]
        assert package_row.main([*row_line, *more]) == 0
        return job, row

    return once


def test_a_row_without_a_result_has_a_placeholder_where_a_rule_names_its_weights(
    ask, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    """A study that deletes rows after their last reader names them; the row has its reason and no scores as before."""
    _, row = ask("raise", "--placeholder")
    assert load_tensors(row / "model.safetensors", "placeholder") == {}
    assert len(content_digest(row / "model.safetensors")) == DIGITS
    out = tmp_path / "metrics.json"
    line = ["row", "--row-dir", str(row), "--model-dir", str(tiny_llama_dir), "--out", str(out)]
    assert evaluation_stage.main(line) == 0
    assert read_json(out)["texts"] == {}
    with pytest.raises(CheckpointError, match="for this processor, sorry"):
        load_dequantized(row, tiny_llama_dir)


def test_its_numbers_are_in_the_row_bit_for_bit(ask, tiny_llama_dir: Path, text: Path) -> None:
    job, row = ask()
    outcome, meta = read_json(job / "outcome.json"), read_json(row / "meta.json")
    assert outcome["ok"]
    windows = calibration_windows(tiny_llama_dir, text, tokens=TOKENS, length=LENGTH)
    np.testing.assert_array_equal(np.load(job / "native" / "tokens.npy"), windows.numpy())
    model, float_model = load_dequantized(row, tiny_llama_dir), load_float(tiny_llama_dir)
    for spec in list_linears(read_config(tiny_llama_dir)):
        kept, _ = read_linear(job, spec.name)
        shape = (spec.d_out, -1, GROUP)
        wide = kept["codes"].astype(np.float64).reshape(shape) - kept["zeros"].astype(np.float64)[..., None]
        exact = (wide * kept["scales"].astype(np.float64)[..., None]).reshape(spec.d_out, spec.d_in)
        weight = model.get_submodule(spec.name).weight
        np.testing.assert_array_equal(weight.double().numpy(), exact)
        # the same rounding as our own RTN, which this package imitates
        ours = quantize_rtn(float_model.get_submodule(spec.name).weight, BITS, GROUP).dequantize()
        assert float((ours - weight).abs().max()) < 0.02 * float(ours.abs().max())
    assert (meta["grid"], meta["group_size"], meta["fold"], meta["external"]) == ("affine", GROUP, "none", True)
    assert meta["bytes_native"] == (job / "native" / "tokens.npy").stat().st_size
    assert meta["bytes_file"] == (row / "model.safetensors").stat().st_size
    assert "a shim" in meta["note"]
    assert meta["peak_rss_bytes"] > 10_000_000
    linears = {tiny_llama_dir.name: list_linears(read_config(tiny_llama_dir))}
    assert sum(line["bytes"] for line in reported_rows(meta, linears, row)) == meta["bytes_linear"]
    assert {line["bits"] for line in reported_rows(meta, linears, row)} == {BITS}
    record = record_row(metrics(meta, {}, None), None, {})
    assert (record["kind"], record["produced"]) == ("package", "simulated")


def test_a_dense_linear_is_read_back_and_counted_at_its_packed_bytes(ask, tiny_llama_dir: Path) -> None:
    job, row = ask("dense")
    affine_job, affine_row = ask()
    meta, affine = read_json(row / "meta.json"), read_json(affine_row / "meta.json")
    one, other = load_dequantized(row, tiny_llama_dir), load_dequantized(affine_row, tiny_llama_dir)
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
    dense = {name: about for name, about in meta["linears"].items() if about["type"] == "package"}
    assert len(dense) == 2
    before = sum(affine["linears"][name]["bytes"] for name in dense)
    assert meta["bytes_linear"] == affine["bytes_linear"] - before + 2 * 1000
    assert meta["bytes_stored"] == (row / "model.safetensors").stat().st_size > meta["bytes_file"]
    parts = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")
    assert sum(meta[part] for part in parts) == meta["bytes_file"]
    assert (meta["grid"], meta["bits_nominal"]) == ("package", None)
    linears = {tiny_llama_dir.name: list_linears(read_config(tiny_llama_dir))}
    assert {line["type"] for line in reported_rows(meta, linears, row)} == {"affine", "package"}
    assert {path.name for path in (job / LINEARS).iterdir()} == {path.name for path in (affine_job / LINEARS).iterdir()}


def test_a_changed_norm_is_taken_over(ask, tiny_llama_dir: Path) -> None:
    _, row = ask("norm")
    norm = load_float(tiny_llama_dir).get_submodule("model.norm").weight
    torch.testing.assert_close(load_dequantized(row, tiny_llama_dir).get_submodule("model.norm").weight, 2 * norm)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "for this processor, sorry"),
        ("assert", "AssertionError: assert job.bits > 8"),
        ("die", "its process was killed by SIGKILL (out of memory?)"),
        ("exit", "SystemExit: usage: something"),
        ("forget", "PackageError: 2 linears were never handed over, model.layers.0.mlp.down_proj among them"),
        ("stranger", "model.stranger.weight is no parameter of this llama model"),
    ],
)
def test_a_package_that_fails_costs_its_row_and_nothing_else(
    ask, tiny_llama_dir: Path, tmp_path: Path, how: str, reason: str
) -> None:
    _, row = ask(how)
    meta = read_json(row / "meta.json")
    assert meta["failed"] == meta["note"] == reason
    assert not (row / "model.safetensors").exists()
    assert not any(name.startswith("bytes_file") for name in meta)
    out = tmp_path / "metrics.json"
    line = ["row", "--row-dir", str(row), "--model-dir", str(tiny_llama_dir), "--out", str(out)]
    assert evaluation_stage.main(line) == 0
    found = read_json(out)
    assert found["texts"] == found["sizes"] == {}
    record = record_row(found, None, {})
    assert (record["kind"], record["produced"], record["note"]) == ("package", "not run", reason)
    assert not [name for name in record if name.startswith(("ppl", "kl_", "bytes"))]
    assert list(reported_rows(meta, {}, row)) == []
    with pytest.raises(CheckpointError, match="did not run"):
        load_dequantized(row, tiny_llama_dir)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"skip": "it needs a GPU"}, "it needs a GPU"),
        ({"bits": 8}, "it has no width of 8 bits"),
        (
            {"environment": {"ok": False, "reason": "its environment cannot be installed here: no network"}},
            "no network",
        ),
    ],
)
def test_a_reason_not_to_run_is_looked_at_before_the_work(ask, change: dict, reason: str) -> None:
    job, row = ask(**change)
    assert reason in read_json(row / "meta.json")["failed"]
    assert {path.name for path in job.rglob("*")} == {"outcome.json", "linears", "native"}  # the folders are empty


def test_an_environment_that_cannot_be_installed_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's own words, and exit status 0; venv and pip are replaced by programs that end at once."""
    calls: list[list[str]] = []

    def fake(line: list[str]) -> str:
        calls.append(line)
        if "no-such==1" in line:
            raise package_env.InstallError("ERROR: No matching distribution found for no-such==1")
        return "numpy==2.4.6\n" if "freeze" in line else ""

    monkeypatch.setattr(package_env, "command", fake)
    bad, good = tmp_path / "bad" / "environment.json", tmp_path / "good" / "environment.json"
    assert package_env.main(["--requirements", "no-such==1", "--out", str(bad)]) == 0
    record = read_json(bad)
    assert not record["ok"]
    assert "No matching distribution" in record["reason"]
    calls.clear()
    assert package_env.main(["--requirements", "numpy==2.4.6", "torch==2.13.0", "--out", str(good)]) == 0
    assert read_json(good)["freeze"] == ["numpy==2.4.6"]
    installs = [line[line.index("--no-input") + 1 :] for line in calls if "install" in line]
    assert installs[0] == ["torch==2.13.0"]  # what is built from source looks for it
    assert installs[1][:2] == ["numpy==2.4.6", "torch==2.13.0"]


def test_a_command_that_fails_gives_its_error_line() -> None:
    with pytest.raises(package_env.InstallError, match="ERROR: it broke"):
        package_env.command([sys.executable, "-c", "print('ERROR: it broke'); print('hint'); raise SystemExit(3)"])
