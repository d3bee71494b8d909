"""How many bytes a quantized linear takes, and what a budget of b bits means. Integers only, no torch.

The unit of a budget is the packed linears alone: codes, scales and zero-points as ``ramp.quantizers.packing``
lays them out. Embedding, head, norms and biases are stored alike by every method and are never part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from ramp.errors import RampError

if TYPE_CHECKING:
    from ramp.models import LinearSpec

MIN_BITS, MAX_BITS = 2, 8
"""Widths that the affine grid knows."""

GROUP_SIZES = (128, 64, 32)
"""Group sizes to fall back to, in this order, where the requested one does not divide a row."""

WHOLE_ROW = -1
"""The group size that asks for one group per row, the field's *per-channel* quantization (written so by gptqmodel)."""

SCALE_BYTES = 2
"""One float16 scale per group."""

Q8_0_BLOCK, Q8_0_BLOCK_BYTES = 32, 34
"""ggml's Q8_0: 32 signed bytes and one float16 scale."""


class SizeError(RampError):
    """A row that no allowed group size divides, a width outside 2..8, or a budget outside the menu."""


def check_bits(bits: int) -> int:
    """Return ``bits`` if it is a whole width from 2 to 8."""
    if bits != int(bits) or not MIN_BITS <= bits <= MAX_BITS:
        raise SizeError(f"{bits} bits is not a width of the affine grid: use a whole number, {MIN_BITS} to {MAX_BITS}")
    return int(bits)


def group_size_for(d_in: int, requested: int, name: str = "") -> int:
    """The group size that a row of ``d_in`` weights gets.

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
        f"{', '.join(map(str, GROUP_SIZES))}: ask for a group size that divides {d_in}"
    )


def linear_bytes(d_out: int, d_in: int, bits: int, group_size: int) -> int:
    """Bytes of one packed linear: codes (each row padded to a byte), float16 scales, zero-points in one stream.

    ``group_size`` is the one asked for; rows that it does not divide get ``group_size_for``'s.
    """
    bits = check_bits(bits)
    groups = d_out * (d_in // group_size_for(d_in, group_size))
    return d_out * math.ceil(d_in * bits / 8) + SCALE_BYTES * groups + math.ceil(groups * bits / 8)


def bytes_matrix(linears: Sequence[LinearSpec], widths: Sequence[int], group_size: int) -> np.ndarray:
    """Bytes of every linear at every width, int64 [len(linears), len(widths)]."""
    return np.array([[linear_bytes(x.d_out, x.d_in, b, group_size) for b in widths] for x in linears], dtype=np.int64)


def uniform_bytes(linears: Sequence[LinearSpec], bits: int, group_size: int) -> int:
    """``bytes_linear`` of the row that gives every linear ``bits`` bits."""
    return sum(linear_bytes(x.d_out, x.d_in, bits, group_size) for x in linears)


def budget_bytes(linears: Sequence[LinearSpec], budget_bits: float, group_size: int) -> int:
    """What a budget of ``budget_bits`` allows the packed linears to take, in bytes.

    The uniform row's ``bytes_linear`` at a whole width; in between, linear interpolation of the two
    neighbouring uniform rows, rounded down (in exact decimal arithmetic: 3.65 means 365/100).
    """
    exact = Fraction(str(float(budget_bits)))
    if not MIN_BITS <= exact <= MAX_BITS:
        raise SizeError(f"a budget of {budget_bits} bits is outside {MIN_BITS} to {MAX_BITS}: choose one inside")
    low = math.floor(exact)
    at_low = uniform_bytes(linears, low, group_size)
    if exact == low:
        return at_low
    return math.floor(at_low + (exact - low) * (uniform_bytes(linears, low + 1, group_size) - at_low))


def bits_nominal(bits: Mapping[str, int], linears: Sequence[LinearSpec]) -> tuple[float, float]:
    """Mean payload width of an allocation: (weighted by parameters, unweighted over linears).

    ``bits`` maps every linear's name to its width; overhead of scales and zeros is not counted here.
    """
    missing = [x.name for x in linears if x.name not in bits]
    if missing or not linears:
        what = f"does not name {missing[0]} (and {len(missing) - 1} more)" if missing else "is over no linears"
        raise SizeError(f"the allocation {what}: give every linear a width")
    weighted = sum(x.d_out * x.d_in * bits[x.name] for x in linears) / sum(x.d_out * x.d_in for x in linears)
    return weighted, sum(bits[x.name] for x in linears) / len(linears)


def q8_0_row_bytes(columns: int) -> int | None:
    """Bytes of one Q8_0 row, or None where blocks of 32 do not divide it (such tables stay float16)."""
    blocks, rest = divmod(columns, Q8_0_BLOCK)
    return None if rest else blocks * Q8_0_BLOCK_BYTES
