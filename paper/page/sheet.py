"""A table of the results page: columns, lines with what is behind them, and the columns that filters choose by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from paper.page.origin import Origin
from paper.tables.model import estimate_of
from ramp.evaluation.bootstrap import Estimate
from ramp.records.schema import NO_EVIDENCE

Cell = str | int | float | None | list[float | None]
"""What a cell holds; a list is a number with the ends of its interval."""


@dataclass(frozen=True)
class Column:
    """One column; ``digits`` after the point, None as the number is."""

    key: str
    title: str
    kind: Literal["text", "number", "estimate", "forest"] = "text"
    digits: int | None = None
    help: str = ""


@dataclass(frozen=True)
class Line:
    """One line: its cells, its places in the CSV file (from 0), how a plot draws it, and what else is behind it."""

    cells: Mapping[str, Cell]
    places: Sequence[int]
    look: tuple[str, str, str] | None = None  # colour, marker, series
    behind: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Sheet:
    """One table."""

    name: str  # of the table of the records that it is drawn from
    title: str
    note: str
    columns: tuple[Column, ...]
    lines: Sequence[Line]
    filters: tuple[str, ...] = ()
    chosen: Mapping[str, str] | None = None  # what filters are set to when the page opens

    def data(self, origin: Origin) -> dict[str, Any]:
        """Return the sheet as the page's scripts read it."""
        looks = list(dict.fromkeys(line.look for line in self.lines if line.look))
        return {
            "name": self.name,
            "title": self.title,
            "note": self.note,
            "origin": origin.about(self.name),
            "columns": [[c.key, c.title, c.kind, c.digits, c.help] for c in self.columns],
            "filters": list(self.filters),
            "chosen": dict(self.chosen or {}),
            "looks": looks,
            "rows": [
                [
                    [line.cells[column.key] for column in self.columns],
                    [place + 2 for place in line.places],  # lines of the file; the first is its header
                    looks.index(line.look) if line.look else None,
                    dict(line.behind or {}),
                ]
                for line in self.lines
            ],
        }


def cell(found: Estimate | None) -> list[float | None] | None:
    """Return an estimate as a cell, six digits of each number."""
    if found is None:
        return None
    return [None if end is None or end != end else float(f"{end:.6g}") for end in (found.value, found.low, found.high)]


def estimate(line: Mapping[str, Any], value: str, low: str, high: str) -> list[float | None] | None:
    """Return the number and the interval in three fields of a line as a cell."""
    return cell(estimate_of(line, value, low, high))


def beside(found: Sequence[float | None] | None, neutral: float, evidence: bool) -> str | None:
    """Return where an interval lies: lower, higher, within noise, or that there is none; None without a number.

    Without ``evidence`` nothing is said of it: the study holds too little to judge by.
    """
    if found is None:
        return None
    if not evidence:
        return NO_EVIDENCE
    _, low, high = found
    if low is None or high is None:
        return "no interval"
    return "lower" if high < neutral else "higher" if low > neutral else "within noise"
