"""Bytes that lossless coding of a row's codes would save: their zero-order entropy, linear by linear.

The entropy of a linear's histogram of codes is the least that a coder with one fixed table for the linear can come to
(C. E. Shannon, A Mathematical Theory of Communication, 1948); the table itself is not counted. Scales and zero-points
stay as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ramp.quantizers.affine import QuantizedLinear
from ramp.rows.checkpoint import CheckpointError, open_packed, packed_linears
from ramp.rows.meta_file import read_meta


@dataclass(frozen=True)
class CodeEntropy:
    """The codes of a row: bits per weight as packed and as coded, weighted by the weights of its linears."""

    bits_stored: float
    bits_entropy: float
    weights: int

    @property
    def bytes_saved(self) -> float:
        """Bytes that such coders would save of the whole row."""
        return (self.bits_stored - self.bits_entropy) * self.weights / 8


def entropy_of(codes: Tensor) -> float:
    """Return the entropy of the histogram of codes, uint8 of any shape: bits per code."""
    counts = torch.bincount(codes.reshape(-1)).tolist()
    total = codes.numel()
    return math.fsum(count / total * math.log2(total / count) for count in counts if count)


def code_entropy(linears: Mapping[str, QuantizedLinear]) -> CodeEntropy:
    """Return the entropy of the codes of several linears, unpacked one at a time."""
    stored, coded, weights = [], [], 0
    for name in linears:
        linear = linears[name]
        count = linear.codes.numel()
        stored.append(linear.bits * count)
        coded.append(entropy_of(linear.codes) * count)
        weights += count
    return CodeEntropy(sum(stored) / weights, math.fsum(coded) / weights, weights)


def row_entropy(row_dir: Path) -> CodeEntropy:
    """Return the entropy of a packed row's codes; raise ``CheckpointError`` for a row with a linear off the grid."""
    tensors, header = open_packed(row_dir, read_meta(row_dir))
    linears = packed_linears(tensors, header)
    if len(linears) != len(header["linears"]) or not linears:
        raise CheckpointError(f"{row_dir} has linears without codes of ours: name rows of our own quantizers")
    return code_entropy(linears)
