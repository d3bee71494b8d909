"""Rows over banks beside the knapsack of their own bank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ramp.records.runs import Run

BAR = "knapsack"
"""The method that rows of the same bank and budget are compared with."""


def compared(rows: Sequence[Run]) -> list[Run]:
    """Return rows of banks.csv with the knapsack's KL on the same bank at the same budget, and the ratio to it."""

    def place(row: Run) -> tuple[Any, ...]:
        return row["model"], row["bank_seed"], float(row["budget_bits"])

    bars = {
        place(row): row["kl"] for row in rows if row["method"] == BAR and row["bank_seed"] == row["allocation_bank"]
    }
    found = []
    for row in rows:
        bar = bars.get(place(row))
        ratio = row["kl"] / bar if bar and row["kl"] is not None else None
        found.append(row | {"kl_knapsack": bar, "ratio": ratio})
    return found
