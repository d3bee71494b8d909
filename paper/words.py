"""Numbers and lists as the paper's sentences hold them."""

from __future__ import annotations

from paper.intervals import Estimate
from paper.tables.model import Column, parts


def shown(value: float | Estimate, column: Column) -> str:
    """A number with its interval, as in the tables."""
    return " ".join(part for part in parts(value, column) if part)


def plural(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
