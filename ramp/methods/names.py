"""Names of methods that code knows by name; imports nothing."""

from __future__ import annotations

FLOAT, RELEASED = "float", "released"
UNQUANTIZED = (FLOAT, RELEASED)
"""Rows that no method makes: the float model, and the released file of a model that came quantized."""

BAR = "knapsack"
"""The method that searches start from and are compared with: it needs no search itself."""
