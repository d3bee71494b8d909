"""Scales of ggml blocks: taken apart by llama.cpp's de-quantizer, put back to the bit, and tuned towards less KL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from safetensors.numpy import load_file

from ramp.calibration.final_states import float_states
from ramp.export.write import write_file
from ramp.gguf_format.names import checkpoint_values, from_gguf_rows, gguf_tensors, to_gguf_rows
from ramp.gguf_format.reader import GgufFile
from ramp.gguf_format.type_names import MENU
from ramp.models.folder import ModelFolder
from ramp.quantizers.ggml import quantize_ggml
from ramp.scoring.kl_divergence import final_hidden, head_weight
from ramp.sized_gguf.allocate import Frame, plan_types
from ramp.sized_gguf.job import Job, Settings
from ramp.sized_gguf.refit import DAMPING, refit, refit_model
from ramp.sized_gguf.scales import PLACES, BlockScales, ScaleError
from ramp.sized_gguf.score import float_reference, kl_of, score, score_file
from ramp.sized_gguf.texts import Texts
from ramp.sized_gguf.tune import ChangedTensors, make_student, tune
from ramp.sized_gguf.tuned_file import tuned_copy
from ramp.sized_gguf.units import list_units
from ramp.tuning.schedule import Schedule
from ramp.tuning.train import FloatTarget, add_gradients
from tests.tiny_models import random_llama, windows_of


def test_every_type_of_the_menu_has_known_scales() -> None:
    assert set(PLACES) == {*MENU, "Q5_1"}  # to which Q5_K falls back in mixes of llama.cpp


@pytest.mark.parametrize("kind", PLACES)
def test_scales_and_basis_make_the_weights_and_go_back_to_the_same_bytes(kind: str) -> None:
    rng = np.random.default_rng(1)
    weight = (rng.standard_normal((4, 512)) * 0.05).astype(np.float32)
    packed = quantize_ggml(weight, kind, rng.random(512).astype(np.float32) + 0.1)
    blocks = BlockScales(packed, kind)
    expected = dequantize(packed, GGMLQuantizationType[kind])
    np.testing.assert_allclose((blocks.scales[..., None] * blocks.basis).sum(1).reshape(4, 512), expected, rtol=2e-6)
    assert np.array_equal(blocks.packed(blocks.scales), packed)
    doubled = dequantize(blocks.packed(2 * blocks.scales), GGMLQuantizationType[kind])
    np.testing.assert_allclose(doubled, 2 * expected, rtol=2e-6)


def test_scales_beyond_float16_and_types_without_scales_are_refused() -> None:
    packed = quantize_ggml(np.ones((1, 32), dtype=np.float32), "Q8_0")
    blocks = BlockScales(packed, "Q8_0")
    with pytest.raises(ScaleError, match="float16"):
        blocks.packed(np.full_like(blocks.scales, 1e6))
    with pytest.raises(ScaleError, match="F16"):
        BlockScales(packed, "F16")


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K", "Q6_K", "IQ4_NL"])
def test_fitted_scales_are_the_least_squares_solution(kind: str) -> None:
    """Against numpy's own solver, one row at a time in float64, on rows that are told apart by their inputs."""
    rng = np.random.default_rng(2)
    weight = (rng.standard_normal((3, 512)) * 0.05).astype(np.float32)
    inputs = rng.standard_normal((2000, 512)) @ (np.eye(512) + 0.2 * rng.standard_normal((512, 512)))
    second = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    packed = quantize_ggml(weight, kind, np.diag(second).copy())
    before, after = BlockScales(packed, kind), BlockScales(refit(packed, kind, weight, second), kind)
    root = np.linalg.cholesky(second.astype(np.float64)).T  # |root v|^2 = v^T H v
    for row in range(3):
        basis = before.basis[row].astype(np.float64)  # [s, blocks, block]
        columns = np.zeros((512, basis.shape[0] * basis.shape[1]))
        for s in range(basis.shape[0]):
            for b in range(basis.shape[1]):
                part = slice(b * basis.shape[2], (b + 1) * basis.shape[2])
                columns[part, s * basis.shape[1] + b] = basis[s, b]
        design, old = root @ columns, before.scales[row].reshape(-1).astype(np.float64)
        damped = np.sqrt(DAMPING) * np.diag(np.linalg.norm(design, axis=0))
        target = np.concatenate([root @ weight[row], damped @ old])
        best = np.linalg.lstsq(np.vstack([design, damped]), target, rcond=None)[0]
        found = after.scales[row].reshape(-1)
        np.testing.assert_allclose(found, best, rtol=2e-3, atol=1e-3 * np.abs(best).max())
        losses = [np.sum((root @ (weight[row] - columns @ x)) ** 2) for x in (old, found)]
        assert losses[1] < losses[0]


def test_a_model_is_fitted_but_for_its_lookup(model: ModelFolder) -> None:
    types, packed = quantized(model)
    units = list_units(model.config, ("Q4_0", "Q5_0"))
    fitted = refit_model(model, units, types, packed, windows_of(model.path, 8, 16, seed=8))
    assert set(packed) - set(fitted) == (set() if model.tied else {"token_embd.weight"})
    for name, data in fitted.items():
        assert np.array_equal(BlockScales(data, types[name]).basis, BlockScales(packed[name], types[name]).basis)
        assert not np.array_equal(data, packed[name])


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> ModelFolder:
    return ModelFolder(random_llama(tmp_path / "model", tied=request.param))


def quantized(model: ModelFolder) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Every unit at its smallest 32-block type, without importance."""
    types, packed = {}, {}
    for unit in list_units(model.config, ("Q4_0", "Q5_0")):
        types[unit.name] = unit.types[0]
        weight = model.reader.get(unit.tensor.source).float().numpy()
        packed[unit.name] = quantize_ggml(to_gguf_rows(weight, unit.tensor.heads), types[unit.name])
    return types, packed


def kl(
    model: ModelFolder,
    types: dict[str, str],
    packed: dict[str, np.ndarray],
    gains: dict[str, np.ndarray],
    windows: torch.Tensor,
) -> float:
    """The KL of the de-quantized model, with a path of its own to the weights."""
    reference, head = float_reference(model, windows)
    loaded = model.load_float()
    units = {unit.name: unit for unit in list_units(model.config)}
    for name, data in packed.items():
        values = from_gguf_rows(dequantize(data, GGMLQuantizationType[types[name]]), units[name].tensor.heads)
        module = loaded.get_submodule(units[name].tensor.source.removesuffix(".weight"))
        module.weight.data.copy_(torch.from_numpy(np.ascontiguousarray(values)))
    places = {"output_norm.weight": "model.norm"}
    for name, gain in gains.items():
        _, layer, kind, _ = name.split(".") if name not in places else ("", "", "", "")
        norm = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}.get(kind, "")
        path = places.get(name, f"model.layers.{layer}.{norm}")
        loaded.get_submodule(path).weight.data.copy_(torch.from_numpy(gain))
    return kl_of(score(loaded, reference, head)).value


def test_tuning_lowers_the_kl_keeps_the_codes_and_resumes(model: ModelFolder, tmp_path: Path) -> None:
    types, packed = quantized(model)
    units = list_units(model.config, ("Q4_0", "Q5_0"))
    windows = windows_of(model.path, 16, 16, seed=6)
    schedule = Schedule(steps=30, batch=4, length=16, rate=1e-2, warmup=3)
    whole = tune(model, units, types, packed, windows, schedule, tmp_path / "a.safetensors")
    before, after = kl(model, types, packed, {}, windows), kl(model, types, whole.packed, whole.gains, windows)
    assert after < 0.8 * before  # on what it was trained on: a random model has nothing that carries over
    for name, data in whole.packed.items():
        old, new = BlockScales(packed[name], types[name]), BlockScales(data, types[name])
        assert np.array_equal(old.basis, new.basis)
        assert data.shape == packed[name].shape
    # killed behind its last checkpoint: the same bytes
    stopped = tmp_path / "b.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ramp.tuning.train.add_gradients", _killed_at(15))
        with pytest.raises(KeyboardInterrupt):
            tune(model, units, types, packed, windows, schedule, stopped)
    again = tune(model, units, types, packed, windows, schedule, stopped)
    assert all(np.array_equal(again.packed[name], whole.packed[name]) for name in packed)
    assert again.losses == whole.losses
    whole.save(tmp_path / "tuned.safetensors")
    read = ChangedTensors.load(tmp_path / "tuned.safetensors")
    assert np.array_equal(read.packed["token_embd.weight"], whole.packed["token_embd.weight"])
    assert set(load_file(tmp_path / "tuned.safetensors")) >= {"losses", "gain/output_norm.weight"}


def test_gradients_are_those_of_autograd(model: ModelFolder) -> None:
    types, packed = quantized(model)
    windows, head = windows_of(model.path, 3, 12, seed=7), head_weight(model.load_float())
    states = float_states(model, windows)
    torch.testing.assert_close(states, final_hidden(model.load_float(), windows))
    student = make_student(model, list_units(model.config, ("Q4_0", "Q5_0")), types, packed)
    loss = add_gradients(student.model, FloatTarget(windows, states, head), [0, 1, 2])
    found = [change.grad.clone() for change in student.changes]
    for change in student.changes:
        change.grad = None
    q = torch.log_softmax(final_hidden(student.model, windows) @ head_weight(student.model).T, -1)
    p = torch.log_softmax(states @ head.T, -1)
    expected = (p.exp() * (p - q)).sum(-1).mean()
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for ours, change in zip(found, student.changes, strict=True):
        torch.testing.assert_close(ours, change.grad, rtol=1e-3, atol=1e-8)


def _killed_at(step: int):
    """A step that is interrupted once ``step`` steps are done."""
    original, calls = add_gradients, []

    def backward(*given):
        calls.append(1)
        if len(calls) > step:
            raise KeyboardInterrupt
        return original(*given)

    return backward


def test_a_finished_file_is_tuned_in_place_whoever_made_it(model: ModelFolder, tmp_path: Path) -> None:
    """Everything but scales and gains stays: metadata, types, order, size, and what float tensors there are."""
    types, packed = quantized(model)
    units = list_units(model.config, ("Q4_0", "Q5_0"))
    windows = windows_of(model.path, 16, 16, seed=6)
    job = Job(
        model, "", units, Frame.of(model, units, "a"), 0, Settings(0, 0, 0, 0, MENU, 0),
        Texts(*[tmp_path / "text"] * 5, "", ""), tmp_path, tmp_path / "a.gguf", 1,
    )  # fmt: skip

    def data():
        for tensor in gguf_tensors(model.config):
            values = checkpoint_values(model.reader, tensor, model.config).numpy()
            yield packed.get(tensor.name, np.ascontiguousarray(to_gguf_rows(values, tensor.heads)))

    write_file(tmp_path / "a.gguf", model, plan_types(model, types), data(), name="a")
    with pytest.MonkeyPatch.context() as patch:
        (tmp_path / "text").write_text("")
        patch.setattr("ramp.sized_gguf.make.training_windows", lambda *given: windows)
        patch.setattr("ramp.sized_gguf.make.Schedule", lambda **given: Schedule(**given, length=16, rate=1e-2))
        path = tuned_copy(replace(job, tune_steps=20), tmp_path / "a.gguf")
    old, new = GgufFile(tmp_path / "a.gguf"), GgufFile(path)
    assert path.name == "a-tuned20.gguf"
    assert (path.stat().st_size, new.names()) == ((tmp_path / "a.gguf").stat().st_size, old.names())
    same = {name for name in old.names() if np.array_equal(old.raw(name), new.raw(name))}
    assert same == {t.name for t in gguf_tensors(model.config)} - set(packed) - {
        t.name for t in gguf_tensors(model.config) if t.kind == "norm"
    }
    for name in packed:
        before, after = (BlockScales(f.raw(name).reshape(len(packed[name]), -1), types[name]) for f in (old, new))
        assert np.array_equal(before.basis, after.basis)
    reference, head = float_reference(model, windows)
    kls = [kl_of(score_file(file.path, model, reference, head)).value for file in (old, new)]
    assert kls[1] < 0.9 * kls[0]
    before = path.read_bytes()
    assert tuned_copy(replace(job, tune_steps=20), tmp_path / "a.gguf").read_bytes() == before  # made once
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GgufFile, "type", lambda self, name: "IQ2_S")
        with pytest.raises(ScaleError, match="not known"):
            tuned_copy(replace(job, tune_steps=3), tmp_path / "a.gguf")
