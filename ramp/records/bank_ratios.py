"""Rows over banks beside the knapsack of their own bank, all of a model on the same windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ramp.core.errors import RampError
from ramp.methods.names import BAR
from ramp.records.runs import Run

MEASURED = ("n_windows", "length", "dtype")
"""Columns of banks.csv that say how a row was scored: rows of one model agree in them, or compare with none."""


def check_one_depth(rows: Iterable[Mapping[Any, Any]], table: str = "banks") -> None:
    """Raise ``RampError`` where rows of one model were scored on other windows, another length or another dtype."""
    first: dict[str, Mapping[Any, Any]] = {}
    for row in rows:
        known = first.setdefault(row["model"], row)
        for name in MEASURED:
            pair = known.get(name), row.get(name)
            if pair[0] != pair[1] and not any(value is None or value != value or value == "" for value in pair):
                raise RampError(
                    f"{table}.csv would hold rows of {row['model']} with {name} {pair[0]} and {pair[1]}, which compare "
                    "with none of each other: give those of one depth and one dtype"
                )


def compared(rows: Sequence[Run]) -> list[Run]:
    """Return rows of banks.csv with the knapsack's KL on the same bank at the same budget, and the ratio to it.

    Raises:
        RampError: rows of one model that were scored otherwise (``check_one_depth``).
    """
    check_one_depth(rows)

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
