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


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a name; ``auto``: bfloat16 on a GPU and on processors that have it, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[name]
    if device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32
