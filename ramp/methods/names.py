"""Names of methods that code knows by name; imports nothing."""

from __future__ import annotations

FLOAT, RELEASED = "float", "released"
UNQUANTIZED = (FLOAT, RELEASED)
"""Rows that no method makes: the float model, and the released file of a model that came quantized."""

BAR = "knapsack"
"""The method that searches start from and are compared with: it needs no search itself."""

_SUFFIX = "_transfer"


def transferred(method: str) -> str:
    """Return the method name of rows whose policy ``method`` trained on another model."""
    return method + _SUFFIX


def trained_by(method: str) -> str | None:
    """Return the method that trained the policy of a transferred row; None for a row that was not transferred."""
    return method.removesuffix(_SUFFIX) if method.endswith(_SUFFIX) else None
