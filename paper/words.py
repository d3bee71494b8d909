"""Numbers and lists in words, for the paper's sentences."""

from __future__ import annotations

from paper.tables.model import Column, parts
from ramp.evaluation.bootstrap import Estimate


def shown(value: float | Estimate, digits: int = 2, scale: float = 1.0, signed: bool = False) -> str:
    """Return a number with its interval, as in the tables."""
    column = Column("", "", digits=digits, scale=scale, signed=signed)
    return " ".join(part for part in parts(value, column) if part)


def plural(count: int, noun: str) -> str:
    """Return ``1 file``, ``2 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: list[str]) -> str:
    """Return ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
