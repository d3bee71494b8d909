"""The bank: what is on disk is what direct quantization gives, and assembling puts it into a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.evaluation import preload
from ramp.bank import __main__ as stage
from ramp.bank.bank import Assembler, Bank, BankError
from ramp.bank.build import build_bank
from ramp.bank.with_model import open_bank
from ramp.calibration.folding import folded_float_model
from ramp.core.errors import RampError
from ramp.core.tensor_file import TensorFile, TensorFileError, save_tensors
from ramp.models.architecture import list_linears
from ramp.models.folder import ModelFolder
from ramp.quantizers.affine import QuantizedLinear, quantize_rtn
from ramp.quantizers.gptq import output_error
from ramp.quantizers.sizes import bytes_matrix
from ramp.quantizers.widths import bits_of, group_of
from tests.model_folders import load_float, read_config
from tests.reference_quantizers import quantize_gptq
from tests.refusals import refused
from tests.sealed import read_json, write_sealed
from tests.tiny_models import windows_of, write_text

WIDTHS = ("3g-1", 3, "4g16", 6)
GROUP = 32


def a_fold(model_dir: Path) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return {f"model.layers.{i}.{kind}": torch.rand(64, generator=generator) + 0.5
            for i in (0, 1) for kind in ("attn_in", "mlp_in")}  # fmt: skip


def in_width(quantize: Any, weight: torch.Tensor, width: Any) -> QuantizedLinear:
    """Return the weight quantized to the bits of ``width`` in its groups."""
    return quantize(weight, bits=bits_of(width), group_size=group_of(width, GROUP))


def make(model_dir: Path, out: Path, quantizer: str) -> Bank:
    build_bank(
        model_dir,
        None if quantizer == "rtn" else windows_of(model_dir, 8, 64, 4),
        out,
        fold=a_fold(model_dir),
        fold_name="random",
        quantizer=quantizer,
        widths=WIDTHS,
        group_size=GROUP,
        device="cpu",
    )
    return Bank(out)


@pytest.fixture(scope="module")
def rtn(tiny_qwen2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return make(tiny_qwen2_dir, tmp_path_factory.mktemp("bank") / "random-rtn", "rtn")


@pytest.fixture(scope="module")
def gptq(tiny_qwen2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return make(tiny_qwen2_dir, tmp_path_factory.mktemp("bank") / "random-gptq", "gptq")


def test_contents(rtn: Bank, tiny_qwen2_dir: Path) -> None:
    linears = list_linears(read_config(tiny_qwen2_dir))
    assert rtn.linears == linears
    assert rtn.widths == WIDTHS
    assert (rtn.fold, rtn.quantizer, rtn.group_size) == ("random", "rtn", GROUP)
    sizes = rtn.bytes()
    assert sizes.dtype == np.int64
    assert np.array_equal(sizes, bytes_matrix(linears, WIDTHS, GROUP))
    stored = load_file(rtn.path / "bank.safetensors")  # safetensors' own reader
    for i, linear in enumerate(linears):
        for a, width in enumerate(WIDTHS):
            parts = [stored.pop(f"{linear.name}/{width}/{part}") for part in ("codes", "scales", "zeros")]
            assert sum(t.nbytes for t in parts) == sizes[i, a]
            q = rtn.quantized(linear.name, width)
            own = linear.d_in if width == "3g-1" else group_of(width, GROUP)
            assert (q.bits, q.group_size, q.shape) == (bits_of(width), own, (linear.d_out, linear.d_in))
    assert not stored


def test_rtn_entries_are_the_folded_weights_rounded(rtn: Bank, tiny_qwen2_dir: Path) -> None:
    model = folded_float_model(tiny_qwen2_dir, a_fold(tiny_qwen2_dir))
    for linear in rtn.linears:
        for width in WIDTHS:
            expected = in_width(quantize_rtn, model.get_submodule(linear.name).weight, width).dequantize()
            assert torch.equal(rtn.dequantize(linear.name, width), expected)


def test_gptq_entries_agree_with_one_linear_at_a_time(gptq: Bank, tiny_qwen2_dir: Path) -> None:
    """Against Hessians in float64 from a pass of the whole folded float model: float predecessors everywhere."""
    model = folded_float_model(tiny_qwen2_dir, a_fold(tiny_qwen2_dir), torch.float64)
    inputs: dict[str, torch.Tensor] = {}
    for linear in gptq.linears:
        model.get_submodule(linear.name).register_forward_pre_hook(
            lambda m, args, name=linear.name: inputs.__setitem__(name, args[0].flatten(0, 1))
        )
    model(windows_of(tiny_qwen2_dir, 8, 64, 4))
    better = 0
    for linear in gptq.linears:
        x, weight = inputs[linear.name], model.get_submodule(linear.name).weight
        hessian = x.T @ x / len(x)
        for width in WIDTHS:
            ours = gptq.dequantize(linear.name, width, torch.float64)
            direct = in_width(partial(quantize_gptq, hessian=hessian), weight, width).dequantize(torch.float64)
            # float32 against float64: a code on the edge may fall either way, nothing else may differ
            assert float((ours == direct).double().mean()) > 0.97
            found = output_error(ours - weight, hessian)
            assert found == pytest.approx(output_error(direct - weight, hessian), rel=0.05)
            rounded = in_width(quantize_rtn, weight, width).dequantize(torch.float64)
            better += found < output_error(rounded - weight, hessian)
    assert better > 0.9 * len(gptq.linears) * len(WIDTHS)


@pytest.mark.parametrize("resident", [0, 1 << 30])
def test_assembling(rtn: Bank, tiny_qwen2_dir: Path, resident: int) -> None:
    bank, model = Bank(rtn.path), folded_float_model(tiny_qwen2_dir, {}, torch.bfloat16)
    bank.keep_resident(resident)
    assemble, rng = Assembler(bank, model), np.random.default_rng(0)
    for _ in range(4):
        choice = rng.integers(0, len(WIDTHS), len(bank.linears))
        assemble(choice)
        for linear, index in zip(bank.linears, choice, strict=True):
            weight = model.get_submodule(linear.name).weight
            assert torch.equal(weight, rtn.quantized(linear.name, WIDTHS[index]).dequantize(torch.bfloat16))
    assert assemble(choice) == 0
    choice[3] = (choice[3] + 1) % len(WIDTHS)
    assert assemble(choice) == 1
    assert bool(bank._resident) == bool(resident)


def test_packed_copies_on_a_device_are_bounded_and_equal(rtn: Bank, tiny_qwen2_dir: Path) -> None:
    """Checks what a GPU's path keeps; here the device is the processor."""
    model, here = load_float(tiny_qwen2_dir), torch.device("cpu")
    sizes = {(x.name, bits): int(size) for x, row in zip(rtn.linears, rtn.bytes(), strict=True)
             for bits, size in zip(WIDTHS, row, strict=True)}  # fmt: skip
    room = sum(sizes.values()) // 2
    assembler = Assembler(rtn, model, room=room)
    for _ in range(2):
        for name, bits in sizes:
            assert torch.equal(
                assembler.unpacked(name, bits, here).dequantize(), rtn.quantized(name, bits).dequantize()
            )
    kept = sum(sizes[key] for key in assembler._packed)
    assert room - max(sizes.values()) < kept <= room
    assert not Assembler(rtn, model)._room  # a processor keeps de-quantized weights instead


def test_assembling_by_index_and_switching_models(rtn: Bank, tiny_qwen2_dir: Path) -> None:
    bank, n = Bank(rtn.path), len(rtn.linears)
    first, second = load_float(tiny_qwen2_dir), load_float(tiny_qwen2_dir)
    assert bank.assemble(first, [0] * n) == n
    assert bank.assemble(first, [0] * (n - 1) + [2]) == 1
    assert bank.assemble(second, [1] * n) == n
    assert bank.assemble(first, [0] * n) == n  # another model was written in between: nothing is taken for granted
    down = first.model.layers[1].mlp.down_proj.weight
    assert torch.equal(down, rtn.dequantize("model.layers.1.mlp.down_proj", "3g-1"))
    for wrong in ([0] * (n - 1), [4] * n, [-1] * n):
        with pytest.raises(BankError, match="14 indices from 0 to 3"):
            bank.assemble(first, wrong)


def test_preload(rtn: Bank) -> None:
    bank = Bank(rtn.path)
    assert not preload(bank, torch.bfloat16, 1000)
    assert not bank._resident
    assert preload(bank, torch.bfloat16, 1 << 30)
    assert len(bank._resident) == len(bank.linears) * len(WIDTHS)
    name = bank.linears[0].name
    assert bank.dequantize(name, 6, torch.bfloat16) is bank.dequantize(name, 6, torch.bfloat16)
    assert bank.dequantize(name, 6).dtype == torch.float32


def test_room_is_respected(rtn: Bank) -> None:
    bank = Bank(rtn.path)
    bank.keep_resident(64 * 64 * 4)  # one q projection in float32
    for linear in bank.linears:
        bank.dequantize(linear.name, 3)
    assert sum(t.nbytes for t in bank._resident.values()) <= 64 * 64 * 4
    assert len(bank._resident) == 1


def test_damaged_and_missing_banks(rtn: Bank, tmp_path: Path) -> None:
    refused(ValueError, {"run the stage that writes it first": lambda: Bank(tmp_path / "none")})
    calls = {"5 bits": lambda: rtn.dequantize(rtn.linears[0].name, 5), "lm_head": lambda: rtn.dequantize("lm_head", 3)}
    refused(BankError, calls)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "bank.safetensors").write_bytes((rtn.path / "bank.safetensors").read_bytes()[:-5])
    index = read_json(rtn.path / "bank.json")
    write_sealed(broken / "bank.json", index)
    refused(RampError, {"damaged": lambda: Bank(broken)})
    del index["linears"][0]["bytes"]
    write_sealed(broken / "bank.json", index)
    refused(RampError, {"linears.0.bytes": lambda: Bank(broken)})


def small_bank(model_dir: Path, out: Path, quantizer: Any, calibrated: bool = True) -> Bank:
    """A bank of one width on ``model_dir``, without a fold."""
    windows = windows_of(model_dir, 8, 64, 4) if calibrated else None
    about = {"fold": {}, "fold_name": "none", "widths": [3], "group_size": 32, "device": "cpu"}
    build_bank(model_dir, windows, out, quantizer=quantizer, **about)
    return Bank(out)


def test_nothing_half_written_is_left(tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ramp.bank.build.quantize_site", failing)
    with pytest.raises(KeyboardInterrupt):
        small_bank(tiny_llama_dir, tmp_path / "b", "gptq")
    assert list(tmp_path.iterdir()) == []
    refused(BankError, {"windows": lambda: small_bank(tiny_llama_dir, tmp_path / "c", "gptq", calibrated=False)})


def test_tensor_file_is_safetensors(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(7, dtype=torch.uint8), "a": torch.randn(3, 5).half(), "c": torch.zeros(0, 4).byte()}
    layout = {"b": ("U8", (7,)), "a": ("F16", (3, 5)), "c": ("U8", (0, 4))}
    file = TensorFile(tmp_path / "x", layout, {"n": 1})
    for name in ("b", "c"):
        file.write(name, tensors[name])
    with pytest.raises(TensorFileError, match="layout"):
        file.write("a", torch.zeros(3, 4).half())
    with pytest.raises(TensorFileError, match="a among"):
        file.close(complete=True)
    file = TensorFile(tmp_path / "x", layout, {"n": 1})
    for name, tensor in tensors.items():
        file.write(name, tensor)
    file.close(complete=True)
    read = load_file(tmp_path / "x")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_command_line(tiny_llama_dir: Path, tmp_path: Path) -> None:
    text, fold = write_text(tmp_path / "c.jsonl", "Reeds bent under the wind. "), tmp_path / "none.safetensors"
    save_tensors(fold, {}, {"kind": "none"})
    for quantizer in ("rtn", "gptq"):
        out = tmp_path / f"none-{quantizer}"
        argv = ["--model-dir", str(tiny_llama_dir), "--text", str(text), "--tokens", "512", "--length", "64"]
        argv += ["--fold", str(fold), "--quantizer", quantizer, "--widths", "4", "3", "--group-size", "64"]
        assert stage.main([*argv, "--out", str(out)]) == 0
        assert Bank(out).widths == (3, 4)
        assert Bank(out).fold == "none"
        stage.main([*argv[:-1], "-1", "--out", str(tmp_path / "rows")])  # a scale per row
        assert Bank(tmp_path / "rows").group_size == -1
        again = tmp_path / "again"
        stage.main([*argv, "--out", str(again)])
        assert (again / "bank.safetensors").read_bytes() == (out / "bank.safetensors").read_bytes()


def test_a_bank_is_opened_with_its_own_model_and_fold_alone(
    rtn: Bank, tiny_qwen2_dir: Path, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    own, other = tmp_path / "random.safetensors", tmp_path / "awq.safetensors"
    fold = a_fold(tiny_qwen2_dir)
    for path in (own, other):
        save_tensors(path, fold, {"kind": "awq"})
    model = ModelFolder(tiny_qwen2_dir)
    assert open_bank(rtn.path, model, own)[1].keys() == fold.keys()
    calls = {
        "another model": lambda: open_bank(rtn.path, ModelFolder(tiny_llama_dir), own),
        "'random', not 'awq'": lambda: open_bank(rtn.path, model, other),
        "'random', not 'none'": lambda: open_bank(rtn.path, model, None),
    }
    refused(BankError, calls)
