"""Scales of ggml blocks tuned by KL to the float model: a model whose weights follow from the blocks' float16 scales.

Codes, sub-scales and sub-minima stay, so the file's size and format do too. Embedding and head are tuned like the
others where their type has scales. The result is rounded to float16 at the end; ``ramp.tuning.train`` does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ramp.calibration.final_states import float_states
from ramp.core.atomic_files import DamagedFile
from ramp.core.tensors import load_tensors, save_arrays
from ramp.gguf_format.names import from_gguf_rows, gguf_tensors, to_gguf_rows
from ramp.models.empty_model import empty_model, fill
from ramp.models.folder import ModelFolder
from ramp.sized_gguf.scales import PLACES, BlockScales
from ramp.sized_gguf.units import TABLES, Unit
from ramp.tuning.scaled_modules import ScaledWeight, Student, scale_gain
from ramp.tuning.schedule import Schedule
from ramp.tuning.train import FloatTarget, train


@dataclass(frozen=True)
class ScaledBlocks:
    """One tensor of a file and the module that stands for it."""

    blocks: BlockScales
    heads: int
    module: ScaledWeight

    @classmethod
    def of(cls, blocks: BlockScales, heads: int, bias: Tensor | None = None) -> ScaledBlocks:
        """Return a tensor with its rows in the checkpoint's order."""
        scales, basis = (
            torch.from_numpy(np.ascontiguousarray(from_gguf_rows(values, heads)))
            for values in (blocks.scales, blocks.basis)
        )
        del blocks.basis  # it is large, and what packs the scales again needs none
        return cls(blocks, heads, ScaledWeight(scales, basis, bias))

    @property
    def change(self) -> torch.nn.Parameter:
        """The trained parameter."""
        return self.module.change

    def packed(self) -> np.ndarray:
        """Return the tensor's bytes with its scales as they are now."""
        return self.blocks.packed(to_gguf_rows(self.module.scales.detach().numpy(), self.heads))


@dataclass(frozen=True)
class ChangedTensors:
    """Tensors of a file whose scales or gains are not the quantizer's own: fitted again, or tuned."""

    packed: dict[str, np.ndarray]  # tensor -> bytes uint8 [rows, row bytes]
    gains: dict[str, np.ndarray]  # tensor of a norm -> float32 [hidden]
    losses: list[float]  # KL of each step's batch, nats per token; empty where nothing was tuned

    def save(self, path: Path) -> None:
        """Write it as a safetensors file."""
        arrays = {f"packed/{name}": value for name, value in self.packed.items()}
        arrays |= {f"gain/{name}": value for name, value in self.gains.items()}
        save_arrays(path, arrays | {"losses": np.array(self.losses)})

    @classmethod
    def load(cls, path: Path) -> ChangedTensors:
        """Read what ``save`` wrote; raises ``DamagedFile``."""
        arrays = load_tensors(path, "tuned scales", framework="np", again="delete it and run again")
        kinds: dict[str, dict[str, np.ndarray]] = {"packed": {}, "gain": {}, "losses": {}}
        for name, value in arrays.items():
            kind, _, tensor = name.partition("/")
            if kind not in kinds:
                raise DamagedFile(f"{path} holds '{name}', which is no tuned scale: delete it and run again")
            kinds[kind][tensor] = value
        return cls(kinds["packed"], kinds["gain"], arrays["losses"].tolist())


def tune(
    model: ModelFolder,
    units: list[Unit],
    types: Mapping[str, str],
    packed: Mapping[str, np.ndarray],
    windows: Tensor,
    schedule: Schedule,
    checkpoint: Path,
) -> ChangedTensors:
    """Return tuned scales and gains.

    packed: bytes of every unit's tensor, which training starts from; a unit whose type has no scales (F16) is held as
    it is. windows: int64 [count, length] of calibration or training text, of which the schedule takes what it needs.
    checkpoint: file from which a killed run goes on; its name has to belong to the other arguments.
    """
    used, order = schedule.drawn(windows)
    target = FloatTarget(used, float_states(model, used), model.reader.get(model.head_tensor).float())
    student = make_student(model, units, types, packed)
    done = train(student.model, student.changes, target, order, schedule, checkpoint)
    return ChangedTensors(
        {name: each.packed() for name, each in student.scales.items()},
        {name: gain(gain.start).detach().numpy() for name, gain in student.gains.items()},
        done.losses,
    )


def make_student(
    model: ModelFolder, units: list[Unit], types: Mapping[str, str], packed: Mapping[str, np.ndarray]
) -> Student[ScaledBlocks]:
    """Return a model whose weights follow from scales, its norms from gains; a tied head follows the embedding's."""
    loaded = empty_model(model.config, torch.float32)
    scales: dict[str, ScaledBlocks] = {}

    def scaled(unit: Unit) -> ScaledWeight:
        linear = unit.tensor.linear
        bias = model.reader.get(f"{linear.name}.bias").float() if linear is not None and linear.has_bias else None
        scales[unit.name] = ScaledBlocks.of(BlockScales(packed[unit.name], types[unit.name]), unit.tensor.heads, bias)
        return scales[unit.name].module

    chosen = [unit for unit in units if types[unit.name] in PLACES]
    for unit in chosen:
        if unit.tensor.kind not in TABLES:
            loaded.set_submodule(unit.tensor.source.removesuffix(".weight"), scaled(unit))
    fill(loaded, torch.float32, torch.device("cpu"), model.reader.get)
    for unit in chosen:  # behind the tying of weights
        if unit.tensor.kind in TABLES:
            table = scaled(unit)
            loaded.set_submodule(unit.tensor.source.removesuffix(".weight"), table)
            if unit.tensor.kind == "embedding" and model.tied:
                loaded.set_submodule(model.architecture.head, table)
    norms = [tensor for tensor in gguf_tensors(model.config) if tensor.kind == "norm"]
    gains = {x.name: scale_gain(loaded.get_submodule(x.source.removesuffix(".weight"))) for x in norms}
    return Student(loaded, scales, gains)
