"""Windows of calibration text, and the options that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ramp.calibration.block import CalibrationError
from ramp.core.files import require_file
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


def add_text_arguments(parser: Any) -> None:
    """Add ``--model-dir --text --tokens --length --draw``, the options of every stage that calibrates."""
    parser.add_argument("--model-dir", required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--text", required=True, help="calibration documents, JSON lines")
    parser.add_argument("--tokens", type=int, default=8192, help="calibration tokens in all")
    parser.add_argument("--length", type=int, default=512, help="tokens per window")
    add_draw(parser)


def add_draw(parser: Any) -> None:
    """Add ``--draw``, the seed by which windows are drawn."""
    parser.add_argument(
        "--draw", type=int, default=0, help="seed of documents, their order and windows; 0: even spread"
    )
