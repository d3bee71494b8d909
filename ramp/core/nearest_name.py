"""The nearest valid name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""


def near(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)``, or the valid names where none is near."""
    known = sorted(known)
    return nearest(name, known) or f" (known: {', '.join(known) or 'none'})"
