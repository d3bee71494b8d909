"""A page with a part that a command writes, between two comments."""

from __future__ import annotations

from ramp.core.errors import RampError


def with_part(page: str, first: str, last: str, part: str) -> str:
    """Return a page with ``part`` between the marks ``first`` and ``last``; ``RampError`` where it has none."""
    head, begin, rest = page.partition(first)
    _, end, tail = rest.partition(last)
    if not (begin and end):
        raise RampError(f"the page has no marks '{first}' and '{last}': add them where that part belongs")
    return f"{head}{first}\n\n{part}\n\n{last}{tail}"
