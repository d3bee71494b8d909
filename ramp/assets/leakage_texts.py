"""Levels of the leakage meter: how near a text is to the held-out text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["disjoint", "in_domain", "test"]
"""Text of another source than the held-out text, other documents of its source, and the scored windows themselves."""

LEVELS: tuple[str, ...] = get_args(Level)

OWN = "own"
"""The study's own text of a role, whatever its level."""

NO_SEARCH = "none"
"""Level of the search of a uniform row."""


@dataclass(frozen=True)
class Leak:
    """Levels of the text that calibrates, and of the text of sensitivities, search and selection."""

    calibration: str = OWN
    search: str = OWN

    def __str__(self) -> str:
        return f"{self.calibration}-{self.search}"

    @classmethod
    def parse(cls, text: str) -> Leak:
        """Read what ``str`` writes."""
        calibration, _, search = text.partition("-")
        return cls(calibration, search)


NO_LEAK = Leak()
