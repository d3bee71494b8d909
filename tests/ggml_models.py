"""Random models whose rows make K-quants and their fallbacks occur, and banks of them, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from ramp.export.llamacpp_quantize import read_importance_file
from ramp.gguf_format.names import from_gguf_rows, to_gguf_rows
from ramp.models.folder import ModelFolder
from ramp.quantizers.ggml import quantize_ggml
from ramp.quantizers.quantize_rows import RowQuantizer
from ramp.sized_gguf.bank import BankPass, GgmlBank
from ramp.sized_gguf.importance import measure_importance
from ramp.sized_gguf.units import Unit, list_units
from tests.conftest import SHAPE, save_random_model, save_tokenizer
from tests.tiny_models import random_llama, windows_of

WIDE = {"hidden_size": 256, "intermediate_size": 96}
"""Rows of 256 take every type, the rows of 96 of the MLP's last linear those of 32-blocks only."""

NARROW = {"hidden_size": 64, "intermediate_size": 96}
"""Rows of 32-blocks only."""

TYPES = ("IQ3_XXS", "Q3_K", "IQ4_NL", "Q4_0", "Q5_K", "Q8_0")
"""A K-quant, types of 32, one that needs an importance matrix."""


def random_qwen2(folder: Path, **changes: Any) -> Path:
    """A random two-layer Qwen2 with biases and a head of its own."""
    from transformers import Qwen2Config

    folder.mkdir(exist_ok=True)
    size = save_tokenizer(folder)
    config = Qwen2Config(vocab_size=size, bos_token_id=1, eos_token_id=0, tie_word_embeddings=False, **SHAPE | changes)
    return save_random_model(folder, config, seed=4)


MENUS = {"biases": ("Q3_K", "IQ4_NL", "Q5_K", "Q8_0")}
"""Shorter menus, for speed."""

MODELS = {
    "tied": lambda folder: random_llama(folder, tied=True, **WIDE),
    "untied": lambda folder: random_llama(folder, tied=False, **NARROW),
    "biases": lambda folder: random_qwen2(folder, **WIDE),
}


class Made:
    """A model with its importance matrix and its bank."""

    def __init__(self, folder: Path, kind: str, menu: Sequence[str] | None = None, seed: int = 5) -> None:
        self.folder, self.seed = folder, seed
        self.model = ModelFolder(MODELS[kind](folder / kind))
        self.units: list[Unit] = list_units(self.model.config, menu or MENUS.get(kind, TYPES))
        self.windows: torch.Tensor = windows_of(self.model.path, count=3, length=24, seed=6)
        self.imatrix = folder / "imatrix.gguf"
        measure_importance(self.model, windows_of(self.model.path, count=4, length=32, seed=7), self.imatrix)
        self.importance = read_importance_file(self.imatrix)
        self.fill(folder / "bank")
        self.bank = GgmlBank(folder / "bank", self.units)

    def fill(self, bank: Path) -> None:
        """Make the bank, or what is missing of it."""
        with RowQuantizer(1) as quantizer:
            BankPass(self.model, self.units, self.windows, self.importance, bank, quantizer, seed=self.seed).run()

    def quantized(self, unit: Unit, kind: str) -> torch.Tensor:
        """Return what a unit becomes as a type, kept by the bank or not: float32, rows in the checkpoint's order."""
        rows = to_gguf_rows(self.model.reader.get(unit.tensor.source).float().numpy(), unit.tensor.heads)
        packed = quantize_ggml(rows, kind, self.importance.get(unit.name))
        values = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind]).astype(np.float32)
        return torch.from_numpy(from_gguf_rows(values, unit.tensor.heads).copy())
