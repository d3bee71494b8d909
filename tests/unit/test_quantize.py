"""The final quantizer: sequential, exact in its bytes, one function for uniform and mixed rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ramp.bank.bank import Bank
from ramp.bank.build import build_bank
from ramp.calibration.folding import folded_float_model
from ramp.calibration.windows import calibration_windows
from ramp.core.tensor_file import save_tensors
from ramp.models.architecture import LinearSpec
from ramp.models.folder import ModelFolder
from ramp.quantizers import packing
from ramp.quantizers.affine import QuantizedLinear, quantize_rtn
from ramp.quantizers.gptq import output_error
from ramp.quantizers.sizes import linear_bytes, uniform_bytes
from ramp.rows import quantize as quantize_stage
from ramp.rows.checkpoint import load_dequantized
from ramp.rows.meta_file import read_meta
from ramp.rows.sequential_quantization import QuantizationError, quantize_model, uniform
from tests.reference_quantizers import quantize_gptq
from tests.refusals import refused
from tests.sealed import read_json, write_sealed
from tests.tiny_models import altered, write_text

GROUP = 32
LEDGER = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")
UNIFORM = "METHOD = Quantizer(name='{}', title='', source='', fold='{}', quantizer='{}', params={}, group_size={})"
METHODS = {
    "plain": UNIFORM.format("plain", "none", "rtn", "RtnParams", None),
    "small": UNIFORM.format("small", "none", "rtn", "RtnParams", 16),
    "clipped": UNIFORM.format("clipped", "some", "rtn", "RtnParams", None),
    "second": UNIFORM.format("second", "some", "gptq", "GptqParams", None),
    "mixed": (
        "METHOD = Allocator(name='mixed', title='', source='', fold='some', quantizer='gptq', learned=False, "
        "allocate=lambda problem, params, run: None, params=Params)"
    ),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with calibration text, two fold files and the method files."""
    folder = tmp_path_factory.mktemp("study")
    words = ["heron", "reed", "water", "slow", "dusk", "The", "over", "wind,", "mill.", "quiet", "Boats", "lay"]
    write_text(folder / "calibration.jsonl", " ".join(np.random.default_rng(0).choice(words, 1500)), 1)
    generator = torch.Generator().manual_seed(9)
    fold = {f"model.layers.{i}.attn_in": torch.rand(64, generator=generator) + 0.5 for i in (0, 1)}
    save_tensors(folder / "none.safetensors", {}, {})
    save_tensors(folder / "some.safetensors", fold, {})
    for name, line in METHODS.items():
        imports = "from ramp.methods.kinds import Allocator, GptqParams, Params, Quantizer, RtnParams\n"
        (folder / f"{name}.py").write_text(imports + line + "\n")
    return folder


@pytest.fixture(scope="module")
def linears(tiny_qwen2_dir: Path) -> list[LinearSpec]:
    return ModelFolder(tiny_qwen2_dir).linears


@pytest.fixture(scope="module")
def windows(tiny_qwen2_dir: Path, study: Path) -> torch.Tensor:
    return calibration_windows(tiny_qwen2_dir, study / "calibration.jsonl", tokens=1024, length=64)


Make = Callable[..., dict[str, Any]]


@pytest.fixture
def make(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> Make:
    """Run the stage for a row in ``tmp_path / name``; returns its meta.json."""

    def once(method: str, name: str, *more: object, fold: str = "some", group_size: int = GROUP) -> dict[str, Any]:
        options = {
            "--model-dir": tiny_qwen2_dir, "--text": study / "calibration.jsonl", "--tokens": 1024, "--length": 64,
            "--fold": study / f"{fold}.safetensors", "--method-file": study / f"{method}.py",
            "--group-size": group_size, "--study": "test", "--out": tmp_path / name,
        }  # fmt: skip
        words = [word for pair in options.items() for word in pair]
        assert quantize_stage.main([str(word) for word in (*words, *more)]) == 0
        return read_meta(tmp_path / name)

    return once


def run_model(model_dir: Path, study: Path, windows: torch.Tensor, bits: dict[str, int]) -> dict[str, QuantizedLinear]:
    kept: dict[str, QuantizedLinear] = {}
    quantize_model(
        model_dir, windows, bits, fold=load_file(study / "some.safetensors"), quantizer="gptq", group_size=GROUP,
        keep=lambda name, width, q: kept.__setitem__(name, q), device="cpu",
    )  # fmt: skip
    return kept


def logits_error(row: Path, model_dir: Path, windows: torch.Tensor) -> float:
    """Relative distance of the row's logits from the float model's."""
    ours, exact = (
        m(windows[:2]).logits for m in (load_dequantized(row, model_dir), ModelFolder(model_dir).load_float())
    )
    return float((ours - exact).norm() / exact.norm())


def test_true_sequential_against_the_definition(
    tiny_qwen2_dir: Path, study: Path, linears: list[LinearSpec], windows: torch.Tensor
) -> None:
    """A slow version on the whole model: before each site one pass of the model as quantized so far."""
    bits = {x.name: 3 + i % 3 for i, x in enumerate(linears)}
    ours = run_model(tiny_qwen2_dir, study, windows, bits)
    model = folded_float_model(tiny_qwen2_dir, load_file(study / "some.safetensors"))
    assert set(ours) == {x.name for x in linears}
    for site in dict.fromkeys(x.site for x in linears):
        here = [x for x in linears if x.site == site]
        seen: list[torch.Tensor] = []
        module = model.get_submodule(here[0].name)
        handle = module.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args[0].flatten(0, 1)))
        model(windows)
        handle.remove()
        hessian = seen[0].T @ seen[0] / len(seen[0])
        for linear in here:
            weight, q = model.get_submodule(linear.name).weight, ours[linear.name]
            direct = quantize_gptq(weight, hessian, bits[linear.name], GROUP)
            assert q.bits == bits[linear.name]
            assert float((q.codes == direct.codes).float().mean()) > 0.97  # edge cases of float32 sums aside
            error = output_error(q.dequantize() - weight, hessian)
            assert error == pytest.approx(output_error(direct.dequantize() - weight, hessian), rel=0.05)
        for linear in here:  # from here on the model is quantized as ours is, so that small differences do not grow
            model.get_submodule(linear.name).weight.copy_(ours[linear.name].dequantize())


def test_differs_from_the_bank_and_follows_its_predecessors(
    tiny_qwen2_dir: Path, study: Path, linears: list[LinearSpec], windows: torch.Tensor, tmp_path: Path
) -> None:
    """The first site sees float inputs either way; later ones see quantized predecessors."""
    build_bank(
        tiny_qwen2_dir, windows, tmp_path / "b", fold=load_file(study / "some.safetensors"), fold_name="some",
        quantizer="gptq", widths=[3], group_size=GROUP, device="cpu",
    )  # fmt: skip
    bank, ours = Bank(tmp_path / "b"), run_model(tiny_qwen2_dir, study, windows, uniform(linears, 3))
    for x in linears:
        same = torch.equal(bank.quantized(x.name, 3).codes, ours[x.name].codes)
        assert same == (x.site == "model.layers.0.attn_in"), x.name


def test_row_on_disk(
    tiny_qwen2_dir: Path, study: Path, linears: list[LinearSpec], windows: torch.Tensor, make: Make, tmp_path: Path
) -> None:
    meta, out = make("second", "second-b4-s0", "--bits", 4), tmp_path / "second-b4-s0"
    assert (meta["study"], meta["method"], meta["stage"], meta["grid"]) == ("test", "second", "final", "affine")
    assert (meta["budget_bits"], meta["fold"], meta["model"]) == (4.0, "some", tiny_qwen2_dir.name)
    assert meta["bytes_linear"] == uniform_bytes(linears, 4, GROUP)
    assert sum(meta[part] for part in LEDGER) == meta["bytes_file"] == (out / "model.safetensors").stat().st_size
    assert meta["peak_rss_bytes"] > 1e6
    assert meta["peak_gpu_bytes"] is None
    assert meta["wall_s"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name]  # the spill is gone
    model = load_dequantized(out, tiny_qwen2_dir)
    for name, q in run_model(tiny_qwen2_dir, study, windows, uniform(linears, 4)).items():
        assert torch.equal(model.get_submodule(name).weight, q.dequantize())


def test_eight_bits_are_nearly_the_float_model(
    tiny_qwen2_dir: Path, windows: torch.Tensor, make: Make, tmp_path: Path
) -> None:
    make("second", "row", "--bits", 8, "--track", "fp16")
    assert logits_error(tmp_path / "row", tiny_qwen2_dir, windows) < 0.02


@pytest.mark.parametrize(("method", "group_size"), [("plain", GROUP), ("small", 16)])
def test_rtn_needs_no_text_and_a_control_has_groups_of_its_own(
    tiny_qwen2_dir: Path, linears: list[LinearSpec], make: Make, tmp_path: Path, method: str, group_size: int
) -> None:
    """The study asks for groups of 32, the second method for 16: codes, bytes and key are those of 16."""
    meta = make(method, "row", "--bits", 3, fold="none")
    assert (meta["calibration_tokens"], meta["group_size"]) == (0, group_size)
    assert meta["bytes_linear"] == uniform_bytes(linears, 3, group_size)
    model, source = load_dequantized(tmp_path / "row", tiny_qwen2_dir), ModelFolder(tiny_qwen2_dir).load_float()
    for x in linears:
        rounded = quantize_rtn(source.get_submodule(x.name).weight, 3, group_size).dequantize()
        assert torch.equal(model.get_submodule(x.name).weight, rounded)


@pytest.mark.parametrize("method", ["clipped", "second"])
def test_symmetric_rows_of_one_group_each(
    tiny_qwen2_dir: Path, linears: list[LinearSpec], windows: torch.Tensor, make: Make, tmp_path: Path, method: str
) -> None:
    """Symmetric and per-channel, from the command line to a checkpoint that loads: one layout, bytes by rule."""
    meta = make(method, "row", "--bits", 6, "--params", '{"sym": true, "clip": "mse"}', group_size=-1)
    assert (meta["group_size"], meta["params"]["sym"], meta["calibration_tokens"]) == (-1, True, 1024)
    assert meta["bytes_linear"] == sum(x.d_out * x.d_in * 6 // 8 + 2 * x.d_out + x.d_out * 6 // 8 for x in linears)
    stored = load_file(tmp_path / "row" / "model.safetensors")
    for x in linears:
        assert stored[f"{x.name}.scales"].shape == (x.d_out, 1)
        zeros = packing.unpack_flat(stored[f"{x.name}.zeros"], 6, (x.d_out, 1))
        assert bool((zeros == 32).all())
    assert logits_error(tmp_path / "row", tiny_qwen2_dir, windows) < 0.15


def write_allocation(path: Path, linears: list[LinearSpec], widths: dict[str, int], **changes: Any) -> Path:
    size = sum(linear_bytes(x.d_out, x.d_in, widths[x.name], GROUP) for x in linears)
    record = {
        "model": "tiny", "method": "mixed_transfer", "grid": "affine", "group_size": GROUP, "fold": "some",
        "quantizer": "gptq", "budget_bits": 4.0, "budget_bytes": uniform_bytes(linears, 4, GROUP), "seed": 0,
        "kind": "best", "bits": widths, "bytes_linear": size, **changes,
    }  # fmt: skip
    write_sealed(path, record)
    return path


def test_mixed_row(
    tiny_qwen2_dir: Path, study: Path, linears: list[LinearSpec], windows: torch.Tensor, make: Make, tmp_path: Path
) -> None:
    bits = {x.name: 5 if x.role == "q" else 3 for x in linears}
    allocation = write_allocation(tmp_path / "a.json", linears, bits)
    meta = make("mixed", "row", "--allocation", allocation)
    assert meta["method"] == "mixed_transfer"  # the allocation's own, a transferred policy's row is not the method's
    assert meta["bits"] == bits
    assert meta["bytes_linear"] == read_json(allocation)["bytes_linear"]
    kept, model = run_model(tiny_qwen2_dir, study, windows, bits), load_dequantized(tmp_path / "row", tiny_qwen2_dir)
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, kept["model.layers.1.mlp.down_proj"].dequantize())
    # an allocation of one width everywhere is the uniform row, to the bit
    make("mixed", "four", "--allocation", write_allocation(allocation, linears, uniform(linears, 4)))
    make("second", "u", "--bits", 4)
    four, u = (load_dequantized(tmp_path / name, tiny_qwen2_dir).state_dict() for name in ("four", "u"))
    assert all(torch.equal(four[name], u[name]) for name in u)


def test_allocations_that_do_not_fit(linears: list[LinearSpec], make: Make, tmp_path: Path) -> None:
    cases: dict[str, dict[str, Any]] = {
        "widths take": {"bytes_linear": 5},
        "budget is 10": {"budget_bytes": 10},
        "group_size 64, not 32": {"group_size": 64},
        "fold none, not some": {"fold": "none"},
        "quantizer rtn, not gptq": {"quantizer": "rtn"},
        "does not fit this model": {"bits": {"model.layers.0.self_attn.q_proj": 3}},
    }
    for words, changes in cases.items():
        allocation = write_allocation(tmp_path / "a.json", linears, uniform(linears, 3), **changes)
        refused(ValueError, {words: partial(make, "mixed", "row", "--allocation", allocation)})
    assert not (tmp_path / "row").exists()


def test_faults_on_the_command_line(make: Make, tmp_path: Path) -> None:
    second = partial(make, "second", "row")
    calls = {
        "--bits or --allocation": second,
        "'some'": lambda: second("--bits", 4, fold="none"),
        "--text": lambda: quantize_stage.main(["--model-dir", "m", "--method-file", "x.py", "--out", "o"]),
    }
    refused(QuantizationError, calls)
    calls = {"9 bits": lambda: second("--bits", 9), "0.self_attn.q_proj": lambda: second("--bits", 4, group_size=24)}
    refused(ValueError, calls)
    with pytest.raises(SystemExit):
        second("--bits", 4, "--params", "{")
    assert list(tmp_path.iterdir()) == []


def test_float_and_released_rows(tiny_qwen2_dir: Path, tmp_path: Path) -> None:
    model_dir = altered(tiny_qwen2_dir, tmp_path / "tiny")
    asset = {"released_bytes": 1234, "linears_released_bytes": 900, "released_format": "Q4_1", "note": "de-quantized"}
    write_sealed(model_dir / "asset.json", asset)
    for method in ("float", "released"):
        argv = ["--model-dir", str(model_dir), "--method-file", method, "--study", "test"]
        assert quantize_stage.main([*argv, "--out", str(tmp_path / method)]) == 0
        assert [path.name for path in (tmp_path / method).iterdir()] == ["meta.json"]
    model, meta, released = (
        ModelFolder(model_dir).load_float(),
        *map(read_meta, (tmp_path / "float", tmp_path / "released")),
    )
    assert (meta["stage"], meta["simulated"], meta["bytes_head"]) == ("float", True, 0)  # a tied head
    assert "hypothetical" in meta["note"]
    assert sum(meta[part] for part in LEDGER) == meta["bytes_file"] == 2 * sum(p.numel() for p in model.parameters())
    assert (released["bytes_file"], released["bytes_linear"]) == (1234, 900)
    assert "Q4_1" in released["note"]
    windows = torch.arange(20).view(1, 20)
    again = load_dequantized(tmp_path / "released", model_dir)
    assert torch.equal(again(windows).logits, model(windows).logits)
