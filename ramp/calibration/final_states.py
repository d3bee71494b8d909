"""The float model's states behind the final norm, one decoder block in memory at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ramp.calibration.stream import block_runner, stream
from ramp.models.folder import ModelFolder


def float_states(model: ModelFolder, windows: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return the inputs of the head on windows int64 [count, length]: float32 [count, length, hidden], on the host."""
    found: list[Tensor] = []

    @torch.no_grad()
    def keep(hidden: Tensor) -> None:
        norm = block_runner(model, 1, device="cpu").final_norm()
        for window in hidden:  # in place: one buffer for the whole pass
            window.copy_(norm(window))
        found.append(hidden)

    stream(model.path, windows, lambda block: None, device=device, result=keep, label="float model")
    return found[0]
