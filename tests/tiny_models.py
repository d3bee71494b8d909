"""Inputs for tests on the two-layer models of conftest.py: random windows of token ids, a text file."""

from __future__ import annotations

from pathlib import Path

import torch

from ramp.models.folder import ModelFolder
from ramp.models.token_windows import Document, write_documents


def windows_of(model_dir: Path, count: int, length: int, seed: int) -> torch.Tensor:
    """Random token ids of the model's vocabulary, int64 [count, length]."""
    size = ModelFolder(model_dir).config.vocab_size
    return torch.randint(0, size, (count, length), generator=torch.Generator().manual_seed(seed))


def write_text(path: Path, words: str, times: int = 40) -> Path:
    """A text of one document; without words, of none."""
    write_documents(path, [Document(doc="c4-0", text=words * times)] if words else [])
    return path
