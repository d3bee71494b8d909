"""A fold from an entry of the configuration to the file that later stages read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ramp.calibration import fold_search as stage
from ramp.calibration.folding import folded_float_model, load_fold
from tests.model_folders import load_float, read_config
from tests.tiny_models import write_text


def fold_from_configuration(fold: dict[str, Any], model_dir: Path, tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    """What the workflow does with an entry of ``folds:``: check it, make arguments of it, run the stage, read the file.

    Returns (the fold, its metadata)."""
    from ramp.study.validation import validate

    values = {"study": "test", "source": "tiny", "methods": ["mine"], "folds": {"mine": fold}}
    values |= {"transfer": {"methods": ["mine"], "uniform": [], "rivals": []}, "halo": {"methods": []}}
    study = validate({**values, "deterministic": []}, methods=["mine"], models=["tiny"])
    text, out = write_text(tmp_path / "c.jsonl", "A heron stood in the shallows. ", 30), tmp_path / "fold.safetensors"
    argv = ["--model-dir", str(model_dir), "--text", str(text), "--tokens", "128", "--length", "64"]
    assert stage.main([*argv, *study.folds["mine"].options(), "--group-size", "32", "--out", str(out)]) == 0
    with safe_open(out, framework="pt") as handle:
        about = json.loads(handle.metadata()["ramp"])
    return load_fold(out, read_config(model_dir)), about


def test_smoothquant_from_configuration_to_file(peaked_llama_dir: Path, tmp_path: Path) -> None:
    """Equation 4 of SmoothQuant at the configured alpha, from activations and weights taken from the whole model."""
    settings_ = {"kind": "smoothquant", "alpha": 0.85, "sites": ["mlp_in"]}
    fold, about = fold_from_configuration(settings_, peaked_llama_dir, tmp_path)
    assert set(fold) == {"model.layers.0.mlp_in", "model.layers.1.mlp_in"}
    assert (about["kind"], about["alpha"]) == ("smoothquant", 0.85)
    from ramp.calibration.windows import calibration_windows

    model, seen = load_float(peaked_llama_dir), {}
    mlp = model.model.layers[1].mlp
    mlp.gate_proj.register_forward_pre_hook(lambda m, args: seen.update(x=args[0].flatten(0, 1)))
    model(calibration_windows(peaked_llama_dir, tmp_path / "c.jsonl", tokens=128, length=64))
    tops = torch.maximum(mlp.gate_proj.weight.abs().amax(0), mlp.up_proj.weight.abs().amax(0))
    expected = seen["x"].abs().amax(0) ** 0.85 / tops**0.15
    expected = expected / (expected.max() * expected.min()).sqrt()
    torch.testing.assert_close(fold["model.layers.1.mlp_in"], expected, rtol=1e-3, atol=0)
    windows = torch.randint(0, 250, (4, 32), generator=torch.Generator().manual_seed(1))
    folded = folded_float_model(peaked_llama_dir, fold)
    expected = load_float(peaked_llama_dir)(windows).logits
    assert float((folded(windows).logits - expected).norm() / expected.norm()) < 1e-4


def test_awq_from_configuration_to_file(peaked_llama_dir: Path, tmp_path: Path) -> None:
    fold, about = fold_from_configuration(
        {"kind": "awq", "bits": [3], "sym": True, "powers_of_two": True, "duo": True}, peaked_llama_dir, tmp_path
    )
    assert len(fold) == 8
    assert (about["bits"], about["sym"], about["duo"], about["powers_of_two"]) == ([3], True, True, True)
    assert all(torch.equal(torch.exp2(torch.log2(s).round()), s) for s in fold.values())
    assert all(after <= before for before, after in about["errors"].values())
    asymmetric, _ = fold_from_configuration(
        {"kind": "awq", "bits": [3], "powers_of_two": True}, peaked_llama_dir, tmp_path
    )
    assert any(not torch.equal(asymmetric[site], fold[site]) for site in fold)
