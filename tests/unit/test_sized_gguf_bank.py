"""The bank of ggml types against plain autograd in float64, llama.cpp's reader and llama.cpp's quantizer."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from ramp.core.errors import RampError
from ramp.export.llamacpp_quantize import quantize_gguf
from ramp.export.plan import type_lines
from ramp.export.write import export, write_file
from ramp.gguf_format.names import gguf_tensors, to_gguf_rows
from ramp.sized_gguf.allocate import Frame, file_bytes, plan_types
from ramp.sized_gguf.bank import BankPass, GgmlBank, GgmlBankError, step_file, undominated
from tests.ggml_models import MODELS, Made
from tests.model_folders import load_gguf_float


@pytest.fixture(scope="module", params=sorted(MODELS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp(request.param), request.param)


def written(made: Made, types: dict[str, str], path: Path) -> Path:
    """A file of the bank's bytes."""
    units = {unit.name: unit for unit in made.units}

    def data(name: str, source: str, heads: int) -> np.ndarray:
        if name in units:
            return made.bank.packed(units[name], types[name])
        return np.ascontiguousarray(to_gguf_rows(made.model.reader.get(source).float().numpy(), heads))

    arrays = [data(x.name, x.source, x.heads) for x in gguf_tensors(made.model.config)]
    write_file(path, made.model, plan_types(made.model, types), arrays, name="any")
    return path


def draws(made: Made, count: int) -> list[dict[str, str]]:
    """Random types among those that the bank keeps; every kept type of a unit occurs if ``count`` allows."""
    rng = np.random.default_rng(0)
    return [{x.name: made.bank.kept[x.name][rng.integers(len(made.bank.kept[x.name]))] for x in made.units}] + [
        {x.name: made.bank.kept[x.name][step % len(made.bank.kept[x.name])] for x in made.units}
        for step in range(count - 1)
    ]


def test_costs_equal_whole_model_autograd_in_float64(made: Made) -> None:
    """One backward pass per window through the whole model, with the labels that the bank draws."""
    model = made.model.load_float().double()
    folder, generator = made.model, torch.Generator().manual_seed(made.seed)
    arch, tied = folder.architecture, folder.tied
    modules = {x.tensor.source.removesuffix(".weight"): x for x in made.units if x.tensor.kind == "linear"}
    # The labels: one draw per position from the float32 model, window after window.
    single = folder.load_float()
    labels = [
        torch.multinomial(single(w[None]).logits[0, :-1].softmax(-1), 1, generator=generator) for w in made.windows
    ]
    sums: dict[str, dict[str, float]] = {x.name: dict.fromkeys(x.types, 0.0) for x in made.units}
    errors = {}
    for unit in made.units:
        exact = folder.reader.get(unit.tensor.source).double()
        errors[unit.name] = {kind: made.quantized(unit, kind).double() - exact for kind in unit.types}
    embedding = model.get_submodule(arch.embed)
    (table,) = (x for x in made.units if x.tensor.kind == "embedding")
    head = table if tied else next(x for x in made.units if x.tensor.kind == "head")
    for window, drawn in zip(made.windows, labels, strict=True):
        reads: dict[str, torch.Tensor] = {}
        slopes: dict[str, torch.Tensor] = {}

        def hook(name: str, reads: dict = reads, slopes: dict = slopes):  # type: ignore[type-arg,no-untyped-def]
            def forward(module, args, output):  # type: ignore[no-untyped-def]
                reads[name] = args[0].detach()
                output.register_hook(lambda grad: slopes.__setitem__(name, grad.detach()))

            return forward

        handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in modules]
        handles.append(model.get_submodule(arch.head).register_forward_hook(hook("head")))
        with torch.enable_grad():
            looked_up = embedding(window).detach().requires_grad_(True)
            logits = model(inputs_embeds=looked_up[None]).logits[0, :-1]
            torch.nn.functional.cross_entropy(logits, drawn[:, 0], reduction="sum").backward()
        for handle in handles:
            handle.remove()
        for name, unit in modules.items():
            for kind, error in errors[unit.name].items():
                sums[unit.name][kind] += float((slopes[name] * (reads[name] @ error.T)).sum(-1).square().sum())
        for kind, error in errors[head.name].items():
            sums[head.name][kind] += float((slopes["head"] * (reads["head"] @ error.T)).sum(-1).square().sum())
        assert looked_up.grad is not None
        for kind, error in errors[table.name].items():
            sums[table.name][kind] += float((looked_up.grad * error[window]).sum(-1).square().sum())
    scored = made.windows.shape[0] * (made.windows.shape[1] - 1)
    for unit in made.units:
        expected = {kind: 0.5 * value / scored for kind, value in sums[unit.name].items()}
        assert made.bank.costs[unit.name] == pytest.approx(expected, rel=2e-3), unit.name


def test_simulated_weights_are_those_of_the_file(made: Made, tmp_path: Path) -> None:
    """For every unit, and every type that the bank keeps of it, to the bit."""
    seen = set()
    for types in draws(made, 7):
        model = load_gguf_float(made.model.path, written(made, types, tmp_path / "a.gguf"))
        state = model.state_dict()
        for unit in made.units:
            assert torch.equal(state[unit.tensor.source], made.bank.weights(unit, types[unit.name])), unit.name
            seen.add((unit.name, types[unit.name]))
    assert seen == {(unit.name, kind) for unit in made.units for kind in made.bank.kept[unit.name]}


def test_bytes_are_those_of_llama_cpp(made: Made, tmp_path: Path) -> None:
    """The same float file, importance matrix and types through llama.cpp's own quantizer."""
    pytest.importorskip("cyllama")
    export(made.model.path, tmp_path / "float.gguf")
    for types in draws(made, 7):
        quantize_gguf(
            *(tmp_path / "float.gguf", tmp_path / "theirs.gguf", "Q4_K_M"),
            table_type=None,
            importance=made.importance,
            tensor_types=types,
        )
        theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "theirs.gguf").tensors}
        for unit in made.units:
            tensor = theirs[unit.name]
            assert tensor.tensor_type.name == types[unit.name], unit.name
            ours = made.bank.packed(unit, types[unit.name])
            assert np.asarray(tensor.data).view(np.uint8).tobytes() == ours.tobytes(), (unit.name, types[unit.name])


def test_file_has_the_predicted_size(made: Made, tmp_path: Path) -> None:
    frame = Frame.of(made.model, made.units, "any")
    for types in draws(made, 5):
        path = written(made, types, tmp_path / "a.gguf")
        assert path.stat().st_size == file_bytes(frame, made.units, types)


def test_type_lines_name_every_unit_and_no_other_tensor(made: Made, tmp_path: Path) -> None:
    """The file for ``--tensor-type-file`` holds one expression per unit, which matches that tensor alone."""
    import re

    types = draws(made, 1)[0]
    planned = [x for x in plan_types(made.model, types) if x.name in types]
    names = [x.name for x in gguf_tensors(made.model.config)]
    for line, plan in zip(type_lines(planned).split(), planned, strict=True):
        pattern, _, kind = line.rpartition("=")
        assert [name for name in names if re.search(pattern, name)] == [plan.name]
        assert kind.upper() == plan.type


def test_kept_types_are_those_that_no_smaller_one_beats(made: Made) -> None:
    for unit in made.units:
        costs, kept = made.bank.costs[unit.name], made.bank.kept[unit.name]
        for kind in unit.types:
            beaten = any(
                unit.bytes(other) <= unit.bytes(kind) and costs[other] < costs[kind]
                for other in unit.types
                if other != kind
            )
            assert (kind not in kept) == beaten, (unit.name, kind)
        assert kept == undominated(unit, costs)


def test_an_interrupted_pass_goes_on_behind_its_last_step(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are there are not made again, and the rest has the bytes of a pass in one go."""
    block = BankPass._block

    def killed(self: BankPass, step: int, inputs: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        if step == 2:
            raise KeyboardInterrupt
        return block(self, step, inputs, delta)

    monkeypatch.setattr(BankPass, "_block", killed)
    with pytest.raises(KeyboardInterrupt):
        made.fill(tmp_path)
    done = {path.name: path.stat().st_mtime_ns for path in (step_file(tmp_path, 0), step_file(tmp_path, 1))}
    monkeypatch.setattr(BankPass, "_block", block)
    made.fill(tmp_path)
    whole = {path.name: path for path in (made.folder / "bank").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == set(whole)
    for name, path in whole.items():
        assert path.read_bytes() == (tmp_path / name).read_bytes(), name
        assert name not in done or done[name] == (tmp_path / name).stat().st_mtime_ns


def test_damaged_bank_is_refused(made: Made, tmp_path: Path) -> None:
    for source in (made.folder / "bank").iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    last = step_file(tmp_path, made.model.config.num_hidden_layers)
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(RampError, match="cut off"):
        GgmlBank(tmp_path, made.units)
    last.unlink()
    with pytest.raises(GgmlBankError, match="lacks"):
        GgmlBank(tmp_path, made.units)
