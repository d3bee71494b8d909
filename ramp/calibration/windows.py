"""Windows of calibration text."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ramp.calibration.block import CalibrationError
from ramp.core.atomic_files import require_file
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import token_windows


def calibration_windows(model_dir: str | Path, text: str | Path, *, tokens: int, length: int, draw: int = 0) -> Tensor:
    """Return ``tokens // length`` windows of the calibration text: int64 [count, length].

    Draw 0 spreads them evenly; others are drawn at random (``ramp.models.token_windows.token_windows``).
    """
    if length < 1 or tokens < length:
        raise CalibrationError(f"{tokens} calibration tokens hold no window of {length}: raise --tokens")
    require_file(text, "calibration text")
    return token_windows(ModelFolder(model_dir).tokenizer(), text, length=length, count=tokens // length, draw=draw)
