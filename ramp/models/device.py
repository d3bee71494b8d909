"""The device and the dtype that a stage runs with."""

from __future__ import annotations

from pathlib import Path

import torch

from ramp.core.cli import CHECKPOINT, log
from ramp.models.architecture import ModelError
from ramp.models.folder import ModelFolder


def pick_device(device: str) -> torch.device:
    """Return the device of a name: ``auto`` is ``cuda`` where there is one, else ``cpu``.

    Raises ``ModelError`` for another kind of device, or a GPU that the machine does not have."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device '{device}' was asked for and this machine has no usable GPU: pass --device cpu")
    try:
        made = torch.device(device)
    except RuntimeError:
        made = None
    if made is None or made.type == "meta":  # which has no values
        raise ModelError(f"'{device}' is no device that can compute: pass auto, cpu, cuda or cuda:N")
    return made


def pick_dtype(name: str, model_dir: str | Path) -> torch.dtype:
    """Return the dtype of a name, ``checkpoint`` being that of a model's own weights; log where it rounds them."""
    folder = ModelFolder(model_dir)
    dtype: torch.dtype = folder.stored_dtype if name == CHECKPOINT else getattr(torch, name)
    if rounding := folder.rounding(dtype):
        log.info("%s: %s", folder.name, rounding)
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype."""
    return str(dtype).removeprefix("torch.")
