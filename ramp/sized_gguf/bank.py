"""The bank of ggml types: every unit at every type of its menu, quantized once, with what each costs.

The cost of a type is the additive prediction of ``ramp.sensitivity.fisher``, here with one decoder block in memory at a
time. A forward pass keeps the inputs of every block for a few windows. A backward pass then goes from the head to the
embedding: a block runs again with gradients, its linears are quantized to every type, and with d = de-quantized - float
weights, x_t the input and delta_t the gradient at the output of position t, the prediction is

    KL per token = 0.5 / T sum_t (delta_t . (d x_t))^2.

The head is one more linear, with delta_t = p - label. The embedding's x_t is the token's one-hot vector, so that d x_t
is the error of its row; an embedding that is the head too has both sums.

``step-NNN.safetensors`` holds, for each unit of one step (0: the head; then the blocks from the last to the first;
then the embedding) and each type that no other type of at most its bytes beats, the bytes as they stand in a GGUF file:
``{tensor}/{type}`` uint8 [rows, row bytes]. Its metadata hold the costs of all types. ``delta-NNN.safetensors`` is the
gradient that the next step starts from: a killed pass goes on behind its last whole step.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from ramp.calibration.block import BlockVisit
from ramp.calibration.stream import block_runner, stream
from ramp.core.atomic_files import DamagedFile, parse_json, set_aside
from ramp.core.errors import RampError
from ramp.core.tensor_file import save_tensors
from ramp.core.tensors import load_tensors, open_tensors
from ramp.gguf_format.names import from_gguf_rows, to_gguf_rows
from ramp.models.block_backward import block_backward
from ramp.models.folder import ModelFolder
from ramp.quantizers.quantize_rows import Pending, RowQuantizer
from ramp.sized_gguf.units import Unit

log = logging.getLogger("ramp.sized_gguf.bank")


class GgmlBankError(RampError):
    """A bank of ggml types that is damaged, or gradients that are not finite."""


def weights_of(packed: np.ndarray, type_name: str, heads: int) -> Tensor:
    """Return what the bytes uint8 [rows, row bytes] of a tensor stand for: float32, rows in the checkpoint's order."""
    values = dequantize(packed, GGMLQuantizationType[type_name]).astype(np.float32, copy=False)
    return torch.from_numpy(np.ascontiguousarray(from_gguf_rows(values, heads)))


def undominated(unit: Unit, costs: Mapping[str, float]) -> list[str]:
    """Return the types of a unit that no other type of at most its bytes beats, by their bytes."""
    kept: list[str] = []
    for name in sorted(unit.types, key=lambda name: (unit.bytes(name), costs[name])):
        if not kept or costs[name] < costs[kept[-1]]:
            kept.append(name)
    return kept


def label_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of -log p(label) at logits [tokens, vocab]: p - one-hot of ``labels`` [tokens]."""
    chances = logits.softmax(-1)
    return chances.scatter_add_(1, labels[:, None], torch.full((len(labels), 1), -1.0))


class BankPass:
    """The backward pass over one model that fills a bank folder; ``run`` goes on where an earlier one stopped."""

    def __init__(
        self,
        model: ModelFolder,
        units: Sequence[Unit],
        windows: Tensor,
        importance: Mapping[str, np.ndarray],
        folder: Path,
        quantizer: RowQuantizer,
        *,
        seed: int = 0,
    ) -> None:
        self.model, self.windows, self.importance = model, windows, importance
        self.folder, self.quantizer, self.seed = folder, quantizer, seed
        self.steps: dict[int, list[Unit]] = {}
        for unit in units:
            self.steps.setdefault(unit.step, []).append(unit)
        self.blocks = model.config.num_hidden_layers
        self.scored = windows.shape[0] * (windows.shape[1] - 1)
        self.runner = block_runner(model, windows.shape[1], device="cpu")

    def run(self) -> None:
        """Make every step that is not there; all of them, where one is damaged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            for path in sorted(self.folder.glob("*.safetensors")):
                open_tensors(path, "step of a bank")
        except DamagedFile as error:
            set_aside(self.folder, error)
            self.folder.mkdir()
        last = self.blocks + 1
        if step_file(self.folder, last).is_file():
            return
        done = max((step for step in range(last) if self._is_done(step)), default=-1)
        inputs, outputs = self._forward(self.blocks - 1 if done < 0 else self.blocks - done - 1)
        delta = self._head(outputs) if done < 0 else read_delta(delta_file(self.folder, done))
        for step in range(max(done, 0) + 1, last):
            delta = self._block(step, inputs.pop(), delta)
            log.info("backward pass: block %d of %d, quantized to every type", self.blocks - step + 1, self.blocks)
        self._embedding(delta)

    def _is_done(self, step: int) -> bool:
        return step_file(self.folder, step).is_file() and delta_file(self.folder, step).is_file()

    def _forward(self, last_block: int) -> tuple[list[Tensor], Tensor]:
        """Return the inputs of blocks 0 to ``last_block``, [count, length, hidden] each, and the last outputs."""
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []

        def keep(block: BlockVisit) -> None:
            if block.layer <= last_block:
                inputs.append(torch.cat(list(block.inputs())).clone())

        stream(self.model.path, self.windows, keep, device="cpu", result=outputs.append, label="forward pass")
        return inputs, outputs[0]

    def _submit(self, unit: Unit, weight: Tensor) -> dict[str, Pending]:
        values = to_gguf_rows(weight.float().numpy(), unit.tensor.heads)
        importance = self.importance.get(unit.name)
        return {kind: self.quantizer.submit(values, kind, importance, unit.tensor.source) for kind in unit.types}

    def _cost(self, squares: float) -> float:
        return 0.5 * squares / self.scored

    def _head(self, outputs: Tensor) -> Tensor:
        """Do step 0: return the gradient at the last block's outputs [count, length, hidden]."""
        model, norm = self.model, self.runner.final_norm()
        weight = self.runner.head().detach()  # (vocab, hidden)
        (unit,) = self.steps[0]
        pending = self._submit(unit, weight)
        generator = torch.Generator().manual_seed(self.seed)
        delta = torch.empty_like(outputs)
        reads: list[tuple[Tensor, Tensor]] = []  # inputs (length - 1, hidden) and labels (length - 1,) of each window
        for index, window in enumerate(outputs):
            states = window.clone().requires_grad_(True)
            with torch.enable_grad():
                normed = norm(states)
            rows = normed.detach()[:-1]
            logits = rows @ weight.T
            labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
            upstream = torch.zeros_like(window)
            upstream[:-1] = label_gradient(logits, labels) @ weight
            normed.backward(upstream)
            assert states.grad is not None
            delta[index] = states.grad
            reads.append((rows.clone(), labels))
        self._check(delta, "the head")
        packed, costs = {}, {}
        for kind in list(pending):  # what was collected is not held twice
            packed[kind] = self.quantizer.collect(pending.pop(kind))
            error = weights_of(packed[kind], kind, unit.tensor.heads).sub_(weight)
            squares = 0.0
            for rows, labels in reads:  # the gradients again: together they would take more memory than the head
                slopes = label_gradient(rows @ weight.T, labels)
                squares += float(slopes.mul_(rows @ error.T).sum(-1).square_().sum())
            costs[kind] = self._cost(squares)
        self._save(0, {unit: packed}, {unit: costs}, delta, keep_all=model.tied)
        return delta

    def _block(self, step: int, inputs: Tensor, delta: Tensor) -> Tensor:
        """Do the step of one block: return the gradient at its inputs [count, length, hidden]."""
        with self.runner.block(self.blocks - step) as block:
            modules = self.runner.linears(block)
            roles = {unit.tensor.linear.role: unit for unit in self.steps[step] if unit.tensor.linear}
            pending = {unit: self._submit(unit, modules[role].weight) for role, unit in roles.items()}
            gradient, seen = block_backward(self.runner, block, inputs, delta)
            self._check(gradient, f"block {self.blocks - step}")
            found: dict[Unit, dict[str, np.ndarray]] = {}
            costs: dict[Unit, dict[str, float]] = {}
            for role, unit in roles.items():
                rows, slopes = seen.pop(role)
                found[unit], costs[unit] = {}, {}
                for kind, futures in pending[unit].items():
                    found[unit][kind] = self.quantizer.collect(futures)
                    error = weights_of(found[unit][kind], kind, unit.tensor.heads) - modules[role].weight
                    squares = float((rows @ error.T).mul_(slopes).sum(-1).square_().sum())
                    costs[unit][kind] = self._cost(squares)
        self._save(step, found, costs, gradient)
        return gradient

    def _embedding(self, delta: Tensor) -> None:
        """Do the last step: the error of the rows that the windows look up."""
        last = self.blocks + 1
        weight = self.model.reader.get(f"{self.model.architecture.embed}.weight").float()
        tokens, slopes = self.windows.flatten(), delta.flatten(0, 1)

        def cost(packed: np.ndarray, kind: str, unit: Unit) -> float:
            error = weights_of(packed, kind, unit.tensor.heads)[tokens] - weight[tokens]
            return self._cost(float((error * slopes).sum(-1).square().sum()))

        if not self.model.tied:
            (unit,) = self.steps[last]
            packed = {kind: self.quantizer.collect(each) for kind, each in self._submit(unit, weight).items()}
            costs = {kind: cost(packed[kind], kind, unit) for kind in packed}
            self._save(last, {unit: packed}, {unit: costs}, None)
            return
        (unit,) = self.steps[0]
        head = _Step(step_file(self.folder, 0))
        packed = {kind: head.packed(unit.name, kind) for kind in unit.types}
        costs = {kind: head.costs[unit.name][kind] + cost(packed[kind], kind, unit) for kind in packed}
        self._save(last, {unit: packed}, {unit: costs}, None)
        step_file(self.folder, 0).unlink()

    def _check(self, gradient: Tensor, where: str) -> None:
        if not bool(torch.isfinite(gradient).all()):
            raise GgmlBankError(f"the gradient at {where} is NaN or infinite on the calibration text: check the model")

    def _save(
        self,
        step: int,
        packed: Mapping[Unit, Mapping[str, np.ndarray]],
        costs: Mapping[Unit, Mapping[str, float]],
        delta: Tensor | None,
        *,
        keep_all: bool = False,
    ) -> None:
        tensors = {
            f"{unit.name}/{kind}": torch.from_numpy(packed[unit][kind])
            for unit in packed
            for kind in (unit.types if keep_all else undominated(unit, costs[unit]))
        }
        about = {unit.name: dict(costs[unit]) for unit in costs}
        save_tensors(step_file(self.folder, step), tensors, about)
        if delta is not None:
            save_tensors(delta_file(self.folder, step), {"delta": delta}, {})
        for old in range(step):
            delta_file(self.folder, old).unlink(missing_ok=True)


def read_delta(path: Path) -> Tensor:
    """Return the gradient [count, length, hidden] that a step left; raises ``DamagedFile``."""
    return load_tensors(path, "gradient", again="delete its folder and run again")["delta"]


def step_file(folder: Path, step: int) -> Path:
    """Return the file of one step."""
    return folder / f"step-{step:03d}.safetensors"


def delta_file(folder: Path, step: int) -> Path:
    """Return the file of the gradient behind one step."""
    return folder / f"delta-{step:03d}.safetensors"


class _Step:
    """One step's file, memory-mapped."""

    def __init__(self, path: Path) -> None:
        self._tensors = open_tensors(path, "step of a bank", framework="np", again="delete its folder and run again")
        about, what = json.dumps(self._tensors.about), f"the metadata of {path}"
        self.costs: dict[str, dict[str, float]] = parse_json(about, dict[str, dict[str, float]], what)

    def packed(self, name: str, kind: str) -> np.ndarray:
        return self._tensors[f"{name}/{kind}"]


class GgmlBank:
    """A whole bank, read: costs and bytes of every unit's types."""

    def __init__(self, folder: Path, units: Sequence[Unit]) -> None:
        self.units = list(units)
        self._steps: dict[str, _Step] = {}
        self.costs: dict[str, dict[str, float]] = {}
        for path in sorted(folder.glob("step-*.safetensors")):
            step = _Step(path)
            self.costs |= step.costs
            self._steps |= dict.fromkeys(step.costs, step)
        if missing := [unit.name for unit in self.units if unit.name not in self.costs]:
            raise GgmlBankError(f"{folder} lacks {missing[0]}: delete the folder and run again")
        self.kept = {unit.name: undominated(unit, self.costs[unit.name]) for unit in self.units}

    def packed(self, unit: Unit, kind: str) -> np.ndarray:
        """Return the bytes of a unit as one of its ``kept`` types, as they stand in a GGUF file."""
        return self._steps[unit.name].packed(unit.name, kind)

    def weights(self, unit: Unit, kind: str) -> Tensor:
        """Return what they stand for: float32 [d_out, d_in] in the checkpoint's order of rows."""
        return weights_of(self.packed(unit, kind), kind, unit.tensor.heads)
