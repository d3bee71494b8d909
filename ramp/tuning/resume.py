"""Checkpoint that a killed training goes on from: the changes, Adam's moments and the losses so far.

The checkpoint is a safetensors file with its checksum: ``changes.I``, Adam's ``step.I``, ``exp_avg.I`` and
``exp_avg_sq.I`` of every change that had a gradient, and ``losses`` (float64); ``wall_s`` in the metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ramp.core.atomic_files import DamagedFile, set_aside
from ramp.core.tensor_file import save_tensors
from ramp.core.tensors import Tensors, open_tensors

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""Adam's state of one parameter."""


@dataclass
class Progress:
    """State of a training so far."""

    losses: list[float] = field(default_factory=list)  # KL of each step's batch before the step, nats per token
    wall_s: float = 0.0

    def mean_loss(self, last: bool) -> float:
        """Return the mean of the first or last tenth of the losses: of one batch it is mostly the batch's."""
        count = max(len(self.losses) // 10, 1)
        part = self.losses[-count:] if last else self.losses[:count]
        return sum(part) / len(part)


@dataclass(frozen=True)
class Spent:
    """Fields that are read of a checkpoint's metadata."""

    wall_s: float


def keep(path: Path, changes: Sequence[nn.Parameter], optimizer: torch.optim.Adam, done: Progress) -> None:
    """Write a checkpoint, atomically."""
    tensors = {f"changes.{index}": change.data.clone() for index, change in enumerate(changes)}
    for index, change in enumerate(changes):
        tensors |= {f"{name}.{index}": value.clone() for name, value in optimizer.state.get(change, {}).items()}
    tensors["losses"] = torch.tensor(done.losses, dtype=torch.float64)
    save_tensors(path, tensors, {"wall_s": done.wall_s})


def resumed(path: Path, changes: Sequence[nn.Parameter], optimizer: torch.optim.Adam) -> Progress:
    """Read a checkpoint into changes and optimizer, where there is one; a damaged one is set aside."""
    if not path.is_file():
        return Progress()
    try:
        with open_tensors(path, "checkpoint of tuning") as tensors:
            values = [_like(tensors, f"changes.{index}", change) for index, change in enumerate(changes)]
            moments = {index: _moments(tensors, index, change) for index, change in enumerate(changes)}
            losses, wall_s = tensors["losses"], tensors.about_as(Spent).wall_s
        if losses.dtype != torch.float64 or losses.ndim != 1:
            raise DamagedFile(f"{path} does not say what was trained")
    except DamagedFile as error:
        set_aside(path, error)
        return Progress()
    for change, value in zip(changes, values, strict=True):
        change.data.copy_(value)
    state = {index: found for index, found in moments.items() if found}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(losses.tolist(), wall_s)


def _moments(tensors: Tensors, index: int, change: nn.Parameter) -> dict[str, Tensor]:
    """Return Adam's state of a change; empty where it had no gradient."""
    if f"step.{index}" not in tensors:
        return {}
    shapes = {"step": torch.zeros(())}
    return {name: _like(tensors, f"{name}.{index}", shapes.get(name, change)) for name in MOMENTS}


def _like(tensors: Tensors, name: str, other: Tensor) -> Tensor:
    """Return a tensor, which must have the shape of another."""
    found: Tensor = tensors[name]
    if found.shape != other.shape:
        raise DamagedFile(f"{tensors.path} has '{name}' in another shape than what is trained")
    return found
