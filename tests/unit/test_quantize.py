"""The final quantizer: sequential, exact in its bytes, one function for uniform and mixed rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ramp.bank.bank import Bank
from ramp.bank.build import build_bank
from ramp.calibration.folding import folded_float_model
from ramp.calibration.windows import calibration_windows
from ramp.core.tensor_file import save_tensors
from ramp.models.architecture import list_linears
from ramp.quantizers import packing
from ramp.quantizers.affine import QuantizedLinear, quantize_rtn
from ramp.quantizers.gptq import output_error
from ramp.quantizers.sizes import linear_bytes, uniform_bytes
from ramp.rows import quantize as quantize_stage
from ramp.rows.checkpoint import load_dequantized, read_meta
from ramp.rows.sequential import QuantizationError, quantize_model, uniform
from tests.model_folders import load_float, read_config
from tests.reference_quantizers import quantize_gptq

GROUP = 32
UNIFORM = "METHOD = Quantizer(name='{}', title='', source='', fold='{}', quantizer='{}', params={})"
METHODS = {
    "plain": UNIFORM.format("plain", "none", "rtn", "RtnParams"),
    "clipped": UNIFORM.format("clipped", "some", "rtn", "RtnParams"),
    "second": UNIFORM.format("second", "some", "gptq", "GptqParams"),
    "mixed": (
        "METHOD = Allocator(name='mixed', title='', source='', fold='some', quantizer='gptq', learned=False, "
        "allocate=lambda problem, params, run: None, params=Params)"
    ),
}


@pytest.fixture(scope="module")
def study(tiny_qwen2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with calibration text, two fold files and four method files."""
    from ramp.models.token_windows import Document, write_documents

    folder = tmp_path_factory.mktemp("study")
    words = ["heron", "reed", "water", "slow", "dusk", "The", "over", "wind,", "mill.", "quiet", "Boats", "lay"]
    rng = np.random.default_rng(0)
    text = " ".join(rng.choice(words, 1500))
    write_documents(folder / "calibration.jsonl", [Document(doc="c4-0", text=text)])
    generator = torch.Generator().manual_seed(9)
    fold = {f"model.layers.{i}.attn_in": torch.rand(64, generator=generator) + 0.5 for i in (0, 1)}
    save_tensors(folder / "none.safetensors", {}, {})
    save_tensors(folder / "some.safetensors", fold, {})
    for name, line in METHODS.items():
        imports = "from ramp.methods.kinds import Allocator, GptqParams, Params, Quantizer, RtnParams\n"
        (folder / f"{name}.py").write_text(imports + line + "\n")
    return folder


def some_fold(study: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(study / "some.safetensors")


def arguments(model_dir: Path, study: Path, method: str, out: Path, fold: str = "some") -> list[str]:
    return [
        "--model-dir", str(model_dir), "--text", str(study / "calibration.jsonl"), "--tokens", "1024", "--length", "64",
        "--fold", str(study / f"{fold}.safetensors"), "--method-file", str(study / f"{method}.py"),
        "--group-size", str(GROUP), "--study", "test", "--out", str(out),
    ]  # fmt: skip


def windows_of(model_dir: Path, study: Path) -> torch.Tensor:
    return calibration_windows(model_dir, study / "calibration.jsonl", tokens=1024, length=64)


def run_model(
    model_dir: Path, study: Path, bits: dict[str, int], quantizer: Any = "gptq"
) -> dict[str, QuantizedLinear]:
    kept: dict[str, QuantizedLinear] = {}
    quantize_model(
        model_dir, windows_of(model_dir, study), bits, fold=some_fold(study), quantizer="gptq", group_size=GROUP,
        keep=lambda name, width, q: kept.__setitem__(name, q), device="cpu",
    )  # fmt: skip
    return kept


def test_true_sequential_against_the_definition(tiny_qwen2_dir: Path, study: Path) -> None:
    """A slow version on the whole model: before each site one pass of the model as quantized so far."""
    linears = list_linears(read_config(tiny_qwen2_dir))
    bits = {x.name: 3 + i % 3 for i, x in enumerate(linears)}
    ours = run_model(tiny_qwen2_dir, study, bits)
    model = folded_float_model(tiny_qwen2_dir, some_fold(study))
    windows = windows_of(tiny_qwen2_dir, study)
    sites = list(dict.fromkeys(x.site for x in linears))
    assert list(ours) != []
    assert set(ours) == {x.name for x in linears}
    for site in sites:
        here = [x for x in linears if x.site == site]
        seen: dict[str, torch.Tensor] = {}
        handle = model.get_submodule(here[0].name).register_forward_pre_hook(
            lambda m, args, seen=seen: seen.update(x=args[0])
        )
        model(windows)
        handle.remove()
        x = seen["x"].flatten(0, 1)
        for linear in here:
            weight = model.get_submodule(linear.name).weight
            hessian = x.T @ x / len(x)
            direct = quantize_gptq(weight, hessian, bits[linear.name], GROUP)
            q = ours[linear.name]
            assert q.bits == bits[linear.name]
            assert float((q.codes == direct.codes).float().mean()) > 0.97  # edge cases of float32 sums aside
            error = output_error(q.dequantize() - weight, hessian)
            assert error == pytest.approx(output_error(direct.dequantize() - weight, hessian), rel=0.05)
        for linear in here:  # from here on the model is quantized as ours is, so that small differences do not grow
            model.get_submodule(linear.name).weight.copy_(ours[linear.name].dequantize())


def test_differs_from_the_bank_and_follows_its_predecessors(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> None:
    """The first site sees float inputs either way; later ones see quantized predecessors."""
    linears = list_linears(read_config(tiny_qwen2_dir))
    build_bank(
        tiny_qwen2_dir, windows_of(tiny_qwen2_dir, study), tmp_path / "b", fold=some_fold(study), fold_name="some",
        quantizer="gptq", widths=[3], group_size=GROUP, device="cpu",
    )  # fmt: skip
    bank, ours = Bank(tmp_path / "b"), run_model(tiny_qwen2_dir, study, uniform(linears, 3))
    for x in linears:
        same = torch.equal(bank.quantized(x.name, 3).codes, ours[x.name].codes)
        assert same == (x.site == "model.layers.0.attn_in"), x.name


def test_row_on_disk(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "second-b4-s0"
    assert quantize_stage.main([*arguments(tiny_qwen2_dir, study, "second", out), "--bits", "4"]) == 0
    meta, linears = read_meta(out), list_linears(read_config(tiny_qwen2_dir))
    assert (meta["study"], meta["method"], meta["stage"], meta["grid"]) == ("test", "second", "final", "affine")
    assert (meta["budget_bits"], meta["fold"], meta["model"]) == (4.0, "some", tiny_qwen2_dir.name)
    assert meta["bytes_linear"] == uniform_bytes(linears, 4, GROUP)
    assert meta["bytes_file"] == (out / "model.safetensors").stat().st_size
    parts = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")
    assert sum(meta[part] for part in parts) == meta["bytes_file"]
    assert meta["peak_rss_bytes"] > 1e6
    assert meta["peak_gpu_bytes"] is None
    assert meta["wall_s"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name]  # the spill is gone
    model, kept = load_dequantized(out, tiny_qwen2_dir), run_model(tiny_qwen2_dir, study, uniform(linears, 4))
    for x in linears:
        assert torch.equal(model.get_submodule(x.name).weight, kept[x.name].dequantize())
    windows = windows_of(tiny_qwen2_dir, study)[:2]
    logits, expected = model(windows).logits, load_float(tiny_qwen2_dir)(windows).logits
    assert float((logits - expected).norm() / expected.norm()) < 0.5  # fold, norms and biases are in place


def test_eight_bits_are_nearly_the_float_model(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "second-b8-s0"
    quantize_stage.main([*arguments(tiny_qwen2_dir, study, "second", out), "--bits", "8", "--track", "fp16"])
    windows = windows_of(tiny_qwen2_dir, study)[:2]
    logits = load_dequantized(out, tiny_qwen2_dir)(windows).logits
    expected = load_float(tiny_qwen2_dir)(windows).logits
    assert float((logits - expected).norm() / expected.norm()) < 0.02


def test_rtn_needs_no_text_and_clipping_does(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> None:
    quantize_stage.main([*arguments(tiny_qwen2_dir, study, "plain", tmp_path / "p", "none"), "--bits", "3"])
    assert read_meta(tmp_path / "p")["calibration_tokens"] == 0
    model, source = load_dequantized(tmp_path / "p", tiny_qwen2_dir), load_float(tiny_qwen2_dir)
    for x in list_linears(read_config(tiny_qwen2_dir)):
        rounded = quantize_rtn(source.get_submodule(x.name).weight, 3, GROUP).dequantize()
        assert torch.equal(model.get_submodule(x.name).weight, rounded)
    argv = [*arguments(tiny_qwen2_dir, study, "clipped", tmp_path / "c"), "--bits", "3", "--params", '{"clip": "mse"}']
    quantize_stage.main(argv)
    meta = read_meta(tmp_path / "c")
    assert meta["calibration_tokens"] == 1024
    assert meta["params"] == {"clip": "mse", "sym": False}


@pytest.mark.parametrize("method", ["clipped", "second"])
def test_symmetric_rows_of_one_group_each(tiny_qwen2_dir: Path, study: Path, tmp_path: Path, method: str) -> None:
    """Symmetric and per-channel, from the command line to a checkpoint that loads: one layout, bytes by rule."""
    out, linears = tmp_path / "row", list_linears(read_config(tiny_qwen2_dir))
    argv = arguments(tiny_qwen2_dir, study, method, out)
    argv[argv.index("--group-size") + 1] = "-1"
    assert quantize_stage.main([*argv, "--bits", "6", "--params", '{"sym": true, "clip": "mse"}']) == 0
    meta = read_meta(out)
    assert (meta["group_size"], meta["params"]["sym"]) == (-1, True)
    assert meta["bytes_linear"] == uniform_bytes(linears, 6, -1)
    assert meta["bytes_linear"] == sum(x.d_out * x.d_in * 6 // 8 + 2 * x.d_out + x.d_out * 6 // 8 for x in linears)
    from safetensors.torch import load_file

    stored = load_file(out / "model.safetensors")
    for x in linears:
        assert stored[f"{x.name}.scales"].shape == (x.d_out, 1)
        zeros = packing.unpack_flat(stored[f"{x.name}.zeros"], 6, (x.d_out, 1))
        assert bool((zeros == 32).all())
    windows = windows_of(tiny_qwen2_dir, study)[:2]
    logits, expected = (m(windows).logits for m in (load_dequantized(out, tiny_qwen2_dir), load_float(tiny_qwen2_dir)))
    assert float((logits - expected).norm() / expected.norm()) < 0.15


def test_rows_that_no_group_divides_name_the_linear(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> None:
    argv = arguments(tiny_qwen2_dir, study, "second", tmp_path / "row")
    argv[argv.index("--group-size") + 1] = "24"
    with pytest.raises(
        ValueError, match=r"^model\.layers\.0\.self_attn\.q_proj: rows of 64 weights divide into groups"
    ):
        quantize_stage.main([*argv, "--bits", "4"])
    assert not (tmp_path / "row").exists()


def write_allocation(path: Path, linears: list, widths: dict[str, int], **changes: Any) -> Path:
    size = sum(linear_bytes(x.d_out, x.d_in, widths[x.name], GROUP) for x in linears)
    record = {
        "model": "tiny", "method": "mixed_transfer", "grid": "affine", "group_size": GROUP, "fold": "some",
        "quantizer": "gptq", "budget_bits": 4.0, "budget_bytes": uniform_bytes(linears, 4, GROUP), "seed": 0,
        "kind": "best", "bits": widths, "bytes_linear": size, **changes,
    }  # fmt: skip
    path.write_text(json.dumps(record))
    return path


def test_mixed_row(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> None:
    linears = list_linears(read_config(tiny_qwen2_dir))
    bits = {x.name: 5 if x.role == "q" else 3 for x in linears}
    allocation = write_allocation(tmp_path / "a.json", linears, bits)
    argv = arguments(tiny_qwen2_dir, study, "mixed", tmp_path / "row")
    assert quantize_stage.main([*argv, "--allocation", str(allocation)]) == 0
    meta = read_meta(tmp_path / "row")
    assert meta["method"] == "mixed_transfer"  # the allocation's own, a transferred policy's row is not the method's
    assert meta["bits"] == bits
    assert meta["bytes_linear"] == json.loads(allocation.read_text())["bytes_linear"]
    kept, model = run_model(tiny_qwen2_dir, study, bits), load_dequantized(tmp_path / "row", tiny_qwen2_dir)
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, kept["model.layers.1.mlp.down_proj"].dequantize())
    # an allocation of one width everywhere is the uniform row, to the bit
    write_allocation(allocation, linears, uniform(linears, 4))
    quantize_stage.main([*argv[:-1], str(tmp_path / "four"), "--allocation", str(allocation)])
    quantize_stage.main([*arguments(tiny_qwen2_dir, study, "second", tmp_path / "u"), "--bits", "4"])
    four, u = (load_dequantized(tmp_path / name, tiny_qwen2_dir).state_dict() for name in ("four", "u"))
    assert all(torch.equal(four[name], u[name]) for name in u)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bytes_linear": 5}, "its widths take"),
        ({"budget_bytes": 10}, "its budget is 10"),
        ({"group_size": 64}, "group_size 64, not 32"),
        ({"fold": "none"}, "fold none, not some"),
        ({"quantizer": "rtn"}, "quantizer rtn, not gptq"),
        ({"bits": {"model.layers.0.self_attn.q_proj": 3}}, "does not fit this model"),
    ],
)
def test_allocations_that_do_not_fit(
    tiny_qwen2_dir: Path, study: Path, tmp_path: Path, changes: dict, sentence: str
) -> None:
    linears = list_linears(read_config(tiny_qwen2_dir))
    allocation = write_allocation(tmp_path / "a.json", linears, uniform(linears, 3), **changes)
    argv = arguments(tiny_qwen2_dir, study, "mixed", tmp_path / "row")
    with pytest.raises(ValueError, match=sentence):
        quantize_stage.main([*argv, "--allocation", str(allocation)])
    assert not (tmp_path / "row").exists()


def test_faults_on_the_command_line(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> None:
    argv = arguments(tiny_qwen2_dir, study, "second", tmp_path / "row")
    with pytest.raises(QuantizationError, match="--bits or --allocation"):
        quantize_stage.main(argv)
    with pytest.raises(QuantizationError, match="wants the fold 'some'"):
        quantize_stage.main([*arguments(tiny_qwen2_dir, study, "second", tmp_path / "row", "none"), "--bits", "4"])
    with pytest.raises(ValueError, match="9 bits is not a width"):
        quantize_stage.main([*argv, "--bits", "9"])
    with pytest.raises(QuantizationError, match="--text is needed"):
        quantize_stage.main(["--model-dir", "m", "--method-file", "x.py", "--out", "o"])
    with pytest.raises(SystemExit):
        quantize_stage.main([*argv, "--bits", "4", "--params", "{"])
    assert list(tmp_path.iterdir()) == []


def test_float_and_released_rows(tiny_qwen2_dir: Path, tmp_path: Path) -> None:
    model_dir = tmp_path / "tiny"
    model_dir.mkdir()
    for file in tiny_qwen2_dir.iterdir():
        (model_dir / file.name).write_bytes(file.read_bytes())
    asset = {"released_bytes": 1234, "linears_released_bytes": 900, "released_format": "Q4_1", "note": "de-quantized"}
    (model_dir / "asset.json").write_text(json.dumps(asset))
    for method in ("float", "released"):
        out = tmp_path / f"{method}-b16-s0"
        argv = ["--model-dir", str(model_dir), "--method-file", method, "--study", "test", "--out", str(out)]
        assert quantize_stage.main(argv) == 0
        assert [path.name for path in out.iterdir()] == ["meta.json"]
    model, meta = load_float(model_dir), read_meta(tmp_path / "float-b16-s0")
    assert meta["stage"] == "float"
    assert meta["simulated"] is True
    assert "hypothetical" in meta["note"]
    assert meta["bytes_file"] == 2 * sum(p.numel() for p in model.parameters())
    parts = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")
    assert sum(meta[part] for part in parts) == meta["bytes_file"]
    assert meta["bytes_head"] == 0  # tied
    released = read_meta(tmp_path / "released-b16-s0")
    assert (released["bytes_file"], released["bytes_linear"]) == (1234, 900)
    assert "Q4_1" in released["note"]
    windows = torch.arange(20).view(1, 20)
    again = load_dequantized(tmp_path / "released-b16-s0", model_dir)
    assert torch.equal(again(windows).logits, model(windows).logits)


def test_a_control_has_a_group_size_of_its_own(tiny_qwen2_dir: Path, study: Path, tmp_path: Path) -> None:
    """The study asks for groups of 32, the method for 16: codes, bytes and key are those of 16."""
    text = "from ramp.methods.kinds import Quantizer, RtnParams\n" + UNIFORM.format("small", "none", "rtn", "RtnParams")
    (tmp_path / "small.py").write_text(text[:-1] + ", group_size=16)\n")
    given = arguments(tiny_qwen2_dir, study, "plain", tmp_path / "row", fold="none")
    given[given.index("--method-file") + 1] = str(tmp_path / "small.py")
    assert quantize_stage.main([*given, "--bits", "3"]) == 0
    meta, linears = read_meta(tmp_path / "row"), list_linears(read_config(tiny_qwen2_dir))
    assert meta["group_size"] == 16
    assert meta["bytes_linear"] == uniform_bytes(linears, 3, 16) > uniform_bytes(linears, 3, GROUP)
    state, loaded = load_float(tiny_qwen2_dir).state_dict(), load_dequantized(tmp_path / "row", tiny_qwen2_dir)
    name = f"{linears[0].name}.weight"
    assert torch.equal(loaded.state_dict()[name], quantize_rtn(state[name], 3, 16).dequantize())
