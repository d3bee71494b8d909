"""The float model's states behind the final norm, one decoder block in memory at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ramp.calibration.stream import stream
from ramp.models.empty_model import empty_model
from ramp.models.folder import ModelFolder


def final_norm(model: ModelFolder) -> nn.Module:
    """Return the norm before the head, float32, on the host."""
    path = model.architecture.final_norm
    norm = empty_model(model.config, torch.float32).get_submodule(path)
    norm.load_state_dict({"weight": model.reader.get(f"{path}.weight").float()}, assign=True)
    return norm


def float_states(model: ModelFolder, windows: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return the inputs of the head on windows int64 [count, length]: float32 [count, length, hidden], on the host."""
    found: list[Tensor] = []

    @torch.no_grad()
    def keep(hidden: Tensor) -> None:
        norm = final_norm(model)
        for window in hidden:  # in place: one buffer for the whole pass
            window.copy_(norm(window))
        found.append(hidden)

    stream(model.path, windows, lambda block: None, device=device, result=keep, label="float model")
    return found[0]
