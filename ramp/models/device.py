"""The device and the dtype that a stage runs with."""

from __future__ import annotations

from pathlib import Path

import torch

from ramp.core.cli import CHECKPOINT, log
from ramp.models.architecture import ModelError
from ramp.models.folder import ModelFolder


def pick_device(device: str) -> torch.device:
    """Return the device of a name: ``auto`` is ``cuda`` where there is one, else ``cpu``.

    Raises ``ModelError`` for a name that torch does not know, or a GPU that the machine does not have."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device '{device}' was asked for and this machine has no usable GPU: pass --device cpu")
    fault = f"'{device}' is no device that can compute here: pass auto, cpu, cuda or cuda:N"
    try:
        made = torch.device(device)
    except RuntimeError:
        raise ModelError(fault) from None
    beyond = made.type == "cuda" and (made.index or 0) >= torch.cuda.device_count()
    if made.type == "meta" or beyond:  # the former has no values
        raise ModelError(fault)
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
