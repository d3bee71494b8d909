"""The base class of every error that a user reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Found = TypeVar("Found")


class RampError(ValueError):
    """Bad input, a missing file, no access, no room: one sentence with the fault, the place and the remedy.

    The command lines print it without a traceback and exit with status 2 (see ``ramp.core.cli.run``).
    """


class Faults:
    """Faults that are told together, in the order in which they were found."""

    def __init__(self) -> None:
        self.found: list[RampError] = []

    def of(self, call: Callable[[], Found]) -> Found | None:
        """Return what ``call`` returns; where it raises a ``RampError``, keep that and return None."""
        try:
            return call()
        except RampError as error:
            self.found.append(error)
            return None

    def add(self, errors: Iterable[RampError]) -> None:
        """Keep more of them."""
        self.found += errors

    def tell(self, kind: type[RampError]) -> None:
        """Raise the only fault as it is, or several as one ``kind`` of error with a line for each."""
        lines = {str(error): error for error in self.found}
        if len(lines) == 1:
            raise next(iter(lines.values()))
        if lines:
            raise kind("\n".join(lines))
