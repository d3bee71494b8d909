"""Sizes of quantized linears in bytes. Integers only, no torch.

The unit of a budget is the packed linears alone: codes, scales and zero-points as ``ramp.quantizers.packing``
lays them out. Embedding, head, norms and biases are stored alike by every method and are never part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ramp.quantizers.widths import WHOLE_ROW, SizeError, Width, bits_of, group_of

if TYPE_CHECKING:
    from ramp.models.architecture import LinearSpec

GROUP_SIZES = (128, 64, 32)
"""Group sizes to fall back to, in this order, where the requested one does not divide a row."""

SCALE_BYTES = 2
"""One float16 scale per group."""

Q8_0_BLOCK, Q8_0_BLOCK_BYTES = 32, 34
"""ggml's Q8_0: 32 signed bytes and one float16 scale."""


def group_size_for(d_in: int, requested: int, name: str = "") -> int:
    """Return the group size of a row of ``d_in`` weights.

    ``requested`` where it divides the row, else the largest of 128, 64 and 32 below it that does; -1 is the whole
    row. Raises ``SizeError``, naming the linear ``name``, where none divides it.
    """
    where = f"{name}: " if name else ""
    if requested == WHOLE_ROW:
        return d_in
    if requested < 1:
        raise SizeError(f"{where}group size {requested} is not positive: ask for 128, 64 or 32, or -1 for whole rows")
    for size in (requested, *(size for size in GROUP_SIZES if size < requested)):
        if d_in % size == 0:
            return size
    raise SizeError(
        f"{where}rows of {d_in} weights divide into groups of neither {requested} nor a smaller one of "
        f"{', '.join(map(str, GROUP_SIZES))}: ask for -1 (whole rows), or for a group size that divides {d_in}"
    )


def own_group(d_in: int, width: Width, group_size: int, name: str = "") -> int:
    """Return the group size of rows of ``d_in`` weights at ``width`` where the study's is ``group_size``."""
    return group_size_for(d_in, group_of(width, group_size), name)


def linear_bytes(d_out: int, d_in: int, width: Width, group_size: int) -> int:
    """Return the bytes of one packed linear: codes (rows padded to a byte), float16 scales, zero-points in one stream.

    ``group_size`` is the one asked for, unless ``width`` has its own; rows that it does not divide get
    ``group_size_for``'s.
    """
    bits = bits_of(width)
    groups = d_out * (d_in // own_group(d_in, width, group_size))
    return d_out * math.ceil(d_in * bits / 8) + SCALE_BYTES * groups + math.ceil(groups * bits / 8)


def bytes_matrix(linears: Sequence[LinearSpec], widths: Sequence[Width], group_size: int) -> np.ndarray:
    """Return the bytes of every linear at every width, int64 [len(linears), len(widths)]."""
    return np.array([[linear_bytes(x.d_out, x.d_in, b, group_size) for b in widths] for x in linears], dtype=np.int64)


def uniform_bytes(linears: Sequence[LinearSpec], bits: int, group_size: int) -> int:
    """Return ``bytes_linear`` of the row that gives every linear ``bits`` bits."""
    return sum(linear_bytes(x.d_out, x.d_in, bits, group_size) for x in linears)


def bits_nominal(bits: Mapping[str, Width], linears: Sequence[LinearSpec]) -> tuple[float, float]:
    """Return the mean payload width of an allocation: (weighted by parameters, unweighted over linears).

    ``bits`` maps every linear's name to its width; overhead of scales and zeros is not counted here.
    """
    missing = [x.name for x in linears if x.name not in bits]
    if missing or not linears:
        what = f"does not name {missing[0]} (and {len(missing) - 1} more)" if missing else "is over no linears"
        raise SizeError(f"the allocation {what}: give every linear a width")
    weighted = sum(x.d_out * x.d_in * bits_of(bits[x.name]) for x in linears) / sum(x.d_out * x.d_in for x in linears)
    return weighted, sum(bits_of(bits[x.name]) for x in linears) / len(linears)


def q8_0_row_bytes(columns: int) -> int | None:
    """Return the bytes of one Q8_0 row, or None where blocks of 32 do not divide it (such tables stay float16)."""
    blocks, rest = divmod(columns, Q8_0_BLOCK)
    return None if rest else blocks * Q8_0_BLOCK_BYTES
