"""A model of random weights whose blocks are all one block: 1 GB of files stand for a 7B, with its bank.

On a device every block has weights and packed entries of its own, so that memory and time are those of a whole model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.shapes import BlockShape, write_checkpoint
from ramp.bank.bank import Bank
from ramp.models.architecture import LinearSpec
from ramp.models.empty_model import filled_model
from ramp.models.folder import ModelFolder
from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.widths import Width

SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


class AlikeBlocks:
    """A checkpoint folder of one block, with a tokenizer whose tokens are words; and the model of all blocks."""

    def __init__(self, path: Path, shape: BlockShape, seed: int) -> None:
        self.shape, self.random = shape, np.random.default_rng(seed)
        write_checkpoint(path, replace(shape, layers=1), seed)
        write_tokenizer(path, shape.vocab)
        self.folder = ModelFolder(path)

    def windows(self, tokens: int, length: int) -> Tensor:
        """Return random tokens, int64 [tokens // length, length]."""
        return torch.from_numpy(self.random.integers(len(SPECIAL), self.shape.vocab, (tokens // length, length)))

    def words(self, count: int) -> str:
        """Return as many random tokens as text."""
        return " ".join(f"w{token}" for token in self.windows(count, 1)[:, 0].tolist())

    def whole(self, dtype: torch.dtype, device: torch.device) -> Any:
        """Return the model of all blocks in ``dtype``: one tensor after the other crosses to the device."""
        config = self.folder.config
        config = type(config).from_dict({**config.to_dict(), "num_hidden_layers": self.shape.layers})

        def read(name: str) -> Tensor:
            own = re.sub(r"\.layers\.\d+\.", ".layers.0.", name)
            return self.folder.reader.get(own).to(device, copy=True)  # on a processor, the file's own memory

        return filled_model(config, dtype, device, read)


def write_tokenizer(path: Path, vocab: int) -> None:
    """Write a tokenizer of ``vocab`` words: special ones, then ``w3`` and on."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL.values(), *(f"w{token}" for token in range(len(SPECIAL), vocab))]
    made = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, SPECIAL["unk_token"]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL).save_pretrained(path)


class BankOfAlikeBlocks(Bank):
    """The bank of one block as that of a model of many; ``linears``: the model's, in forward order."""

    def __init__(self, path: Path, linears: list[LinearSpec]) -> None:
        super().__init__(path)
        first = {x.role: x.name for x in self.linears}
        self.blocks, self.linears = len(linears) // len(first), linears
        self.own = {x.name: first[x.role] for x in linears}

    def bytes(self) -> np.ndarray:
        return np.tile(super().bytes(), (self.blocks, 1))

    def packed(self, linear: str, width: Width, device: torch.device | str = "cpu") -> list[Tensor]:
        return super().packed(self.own[linear], width, device)

    def unpack(self, linear: str, width: Width, packed: Sequence[Tensor]) -> QuantizedLinear:
        return super().unpack(self.own[linear], width, packed)
