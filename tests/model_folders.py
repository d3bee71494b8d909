"""Parts of a checkpoint folder that is opened for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


def read_config(model_dir: str | Path) -> PretrainedConfig:
    return ModelFolder(model_dir).config


def load_float(
    model_dir: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    return ModelFolder(model_dir).load_float(dtype, device)


def load_tokenizer(model_dir: str | Path) -> Any:
    return ModelFolder(model_dir).tokenizer()


def load_gguf_float(model_dir: str | Path, gguf_path: str | Path) -> PreTrainedModel:
    """The model of a folder with the tensors of a GGUF file."""
    from ramp.gguf_format.reader import GgufFile, gguf_float  # its library is slow to import

    return gguf_float(GgufFile(gguf_path), ModelFolder(model_dir).config)
