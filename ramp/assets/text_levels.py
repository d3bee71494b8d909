"""Levels of the leakage meter: how near a text is to the held-out text."""

from __future__ import annotations

from typing import Literal, get_args

Level = Literal["disjoint", "in_domain", "test"]
"""Text of another source than the held-out text, other documents of its source, and the scored windows themselves."""

LEVELS: tuple[str, ...] = get_args(Level)

OWN = "own"
"""The study's own text of a role, whatever its level."""

NO_SEARCH = "none"
"""Level of the search of a uniform row."""
