"""Windows of calibration text, and the options that name them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ramp.calibration.block import CalibrationError
from ramp.core.files import require_file
from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def check_windows(windows: Tensor, config: PretrainedConfig) -> None:
    """Raise ``CalibrationError`` unless ``windows`` is int64 [count, length] that the model can read causally."""
    if windows.dim() != 2 or not windows.numel():
        raise CalibrationError(
            f"no calibration window (shape {list(windows.shape)}): the calibration text is empty or too short"
        )
    if int(windows.min()) < 0 or int(windows.max()) >= config.vocab_size:
        raise CalibrationError(
            f"token {int(windows.max())} is outside the model's vocabulary of {config.vocab_size}: "
            "tokenizer and model do not belong together"
        )
    length = windows.shape[1]
    if length > config.max_position_embeddings:
        raise CalibrationError(
            f"windows of {length} tokens exceed the model's context of {config.max_position_embeddings}: "
            "shorten --length"
        )
    sliding = getattr(config, "sliding_window", None)
    if sliding is not None and length > sliding:
        raise CalibrationError(
            f"windows of {length} tokens exceed the model's sliding attention window of {sliding}: shorten --length"
        )


def calibration_windows(model_dir: str | Path, text: str | Path, *, tokens: int, length: int) -> Tensor:
    """Return ``tokens // length`` windows, evenly spread over the calibration text: int64 [count, length]."""
    from ramp.models.token_windows import token_windows

    if length < 1 or tokens < length:
        raise CalibrationError(f"{tokens} calibration tokens hold no window of {length}: raise --tokens")
    require_file(text, "calibration text")
    return token_windows(ModelFolder(model_dir).tokenizer(), text, length=length, count=tokens // length)


def add_text_arguments(parser: Any) -> None:
    """Add ``--model-dir --text --tokens --length``, the options of every stage that calibrates."""
    parser.add_argument("--model-dir", required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--text", required=True, help="calibration documents, JSON lines")
    parser.add_argument("--tokens", type=int, default=8192, help="calibration tokens in all")
    parser.add_argument("--length", type=int, default=512, help="tokens per window")
