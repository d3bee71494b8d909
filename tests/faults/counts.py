"""Counts of how injected faults ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Counts:
    """Injected faults by how they ended; the columns of accidents.csv."""

    injected: int = 0
    survived: int = 0  # the work went on, or was made again, with the right result
    clean: int = 0  # one sentence that says what to do
    tracebacks: int = 0  # of Python, or a crash of native code
    hangs: int = 0
    lost: int = 0  # a false or half-written result

    def add(self, outcome: str) -> None:
        """Count one fault."""
        self.injected += 1
        setattr(self, outcome, getattr(self, outcome) + 1)

    def __add__(self, other: Counts) -> Counts:
        own, others = asdict(self), asdict(other)
        return Counts(**{name: own[name] + others[name] for name in own})
