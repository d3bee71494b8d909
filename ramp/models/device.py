"""The device and the dtype that a stage runs with."""

from __future__ import annotations

import torch

from ramp.models.architecture import ModelError


def pick_device(device: str) -> torch.device:
    """Return the device of a name: ``auto`` is ``cuda`` where there is one, else ``cpu``.

    Raises ``ModelError`` for a GPU that the machine does not have."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device '{device}' was asked for and this machine has no usable GPU: pass --device cpu")
    return torch.device(device)


def pick_dtype(name: str) -> torch.dtype:
    """Return the dtype of a name."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[name]
