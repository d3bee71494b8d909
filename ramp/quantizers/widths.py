"""The width of a quantized linear: a number of bits, or bits and a group size of its own.

A *width* is ``3``, three bits in groups of the study's group size, or ``"3g32"``, three bits in groups of 32
(``"3g-1"``: one group per row). It is the same in a configuration, on a command line, in ``bank.json``, in an
allocation file and in memory, so an entry of a menu needs no other name. A menu rises by bits, and among equal bits
by falling group size, which is by bytes for groups of 32 and more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ramp.core.errors import RampError

Width = int | str

MIN_BITS, MAX_BITS = 2, 8
"""Widths that the affine grid knows."""

WHOLE_ROW = -1
"""The group size that asks for one group per row, the field's *per-channel* quantization (written so by gptqmodel)."""

GROUPED = re.compile(r"([0-9])g(-1|[1-9][0-9]*)")
"""Bits, ``g``, group size."""


class SizeError(RampError):
    """A row that no allowed group size divides, an invalid width, or a budget outside the menu."""


def check_bits(bits: int) -> int:
    """Return ``bits`` if it is a whole number of bits from 2 to 8."""
    if not isinstance(bits, int | float) or not MIN_BITS <= bits <= MAX_BITS or bits != int(bits):
        raise SizeError(f"{bits} bits is not a width of the affine grid: use a whole number, {MIN_BITS} to {MAX_BITS}")
    return int(bits)


def split(width: Width) -> tuple[int, int | None]:
    """Return (bits, own group size or None for the study's). Raises ``SizeError``."""
    if isinstance(width, str):
        found = GROUPED.fullmatch(width)
        if found is None:
            raise SizeError(
                f"'{width}' is not a width: give bits (4), or bits and a group size (4g32; 4g-1 for whole rows)"
            )
        return check_bits(int(found[1])), int(found[2])
    return check_bits(width), None


def bits_of(width: Width) -> int:
    """Return the bits per code."""
    return split(width)[0]


def group_of(width: Width, group_size: int) -> int:
    """Return the group size that a width asks for where the study's is ``group_size``."""
    group = split(width)[1]
    return group_size if group is None else group


def parse_width(value: Any) -> Width:
    """Return a width from a command line or a file: a digit becomes a number. Raises ``SizeError``."""
    width: Width = int(value) if isinstance(value, str) and re.fullmatch("[0-9]", value) else value
    split(width)
    return width


def make_menu(values: Iterable[Any], group_size: int) -> list[Width]:
    """Return widths in the order of a menu, each once; the study's own group size is left out of a name."""
    menu = set()
    for value in values:
        bits, group = split(parse_width(value))
        menu.add((bits, group_size if group is None else group))
    ordered = sorted(menu, key=lambda entry: (entry[0], entry[1] != WHOLE_ROW, -entry[1]))
    return [bits if group == group_size else f"{bits}g{group}" for bits, group in ordered]


def grouped(menu: Sequence[Width]) -> bool:
    """Return whether any width of a menu has a group size of its own."""
    return any(isinstance(width, str) for width in menu)
