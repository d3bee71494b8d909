"""A table as data: title, columns with unit and format, rows, footnotes. ``paper.tables.render`` prints it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ramp.evaluation.bootstrap import Estimate

Cell = str | int | float | bool | None | Estimate
MISSING = "–"
"""The cell without a value."""


@dataclass(frozen=True)
class Column:
    """One column; numbers are multiplied by ``scale`` and shown with ``digits`` after the point."""

    key: str
    title: str
    unit: str = ""
    align: Literal["left", "right"] = "right"
    digits: int = 2
    scale: float = 1.0
    signed: bool = False  # show a plus sign
    width: str = "auto"  # typst track size; "1fr" lets prose wrap
    printed: bool = True  # else in the files alone: a page is too narrow for every column


@dataclass(frozen=True)
class Row:
    """Cells by column key; a new ``group`` draws a rule before the row."""

    cells: Mapping[str, Cell]
    group: str = ""


@dataclass(frozen=True)
class Table:
    """One table. Title, footnotes and ``absent``, printed where there are no rows: ``paper.tables.captions``."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()
    footnotes: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()  # footnotes of the files alone: commands and logs, which no printed page needs
    absent: str = "There are no rows for this table in the records."

    def only(self, *keys: str) -> Table:
        """Return the table with only the columns of ``keys``, in its own order."""
        return replace(self, columns=tuple(column for column in self.columns if column.key in keys))

    def filled(self) -> Table:
        """Return the table without the columns that no row fills."""
        used = [c for c in self.columns if any(row.cells.get(c.key) not in (None, "") for row in self.rows)]
        return replace(self, columns=tuple(used))


def labels(*keys: str) -> tuple[Column, ...]:
    """Return left-aligned columns of words, titled by their keys."""
    return tuple(Column(key, key, align="left") for key in keys)


def finite_or_none(value: Any) -> float | None:
    """Return a number of a data frame as a float; None where it is missing."""
    return float(value) if isinstance(value, int | float) and value == value else None


def estimate_of(line: Mapping[str, Any], value: str, low: str = "ci_low", high: str = "ci_high") -> Estimate | None:
    """Return the number and the interval in three fields of a line; None without a number."""
    found = finite_or_none(line[value])
    return None if found is None else Estimate(found, finite_or_none(line[low]), finite_or_none(line[high]))


FINEST = 7
"""Most digits after the point: smaller numbers are rounding noise, and are written with a power of ten."""


def number(value: float, column: Column) -> str:
    """Return a number as the column shows it, with a true minus sign and thousands separators."""
    scaled = abs(value * column.scale)
    if 0 < scaled < 0.5 * 10.0**-FINEST and column.digits >= FINEST:
        return f"{value * column.scale:{'+' if column.signed else ''}.1e}".replace("-", "−")
    shown = f"{value * column.scale:{'+' if column.signed else ''},.{column.digits}f}"
    if float(shown.replace(",", "")) == 0:
        shown = shown.lstrip("+-")
    return shown.replace("-", "−")


def fine(column: Column, *values: float) -> Column:
    """Return the column with as many more digits as ``values`` (a number, or one with its interval) need.

    Numbers of three digits after the point or more keep two significant ones, and an interval is not rounded away.
    """
    scaled = [abs(value * column.scale) for value in values if value == value and abs(value) != math.inf]
    largest = max(scaled, default=0.0)
    if column.digits < 3 or largest == 0:
        return column
    needed = 1 - math.floor(math.log10(largest))
    width = (max(values) - min(values)) * column.scale if len(values) > 1 else 0.0
    if 0 < width < 2 * 10.0**-column.digits:
        needed = max(needed, 1 - math.floor(math.log10(width)))
    return replace(column, digits=min(max(needed, column.digits), FINEST)) if needed > column.digits else column


def parts(cell: Cell, column: Column) -> tuple[str, str]:
    """Return a cell as (main text, interval or nothing)."""
    if cell is None or cell == "":
        return MISSING, ""
    if isinstance(cell, bool):
        return ("yes" if cell else "no"), ""
    if isinstance(cell, str):
        return cell, ""
    if isinstance(cell, Estimate):
        if cell.low is None or cell.high is None or cell.low == cell.high:
            return number(cell.value, fine(column, cell.value)), ""
        column = fine(column, cell.value, cell.low, cell.high)
        return number(cell.value, column), f"[{number(cell.low, column)}, {number(cell.high, column)}]"
    return number(float(cell), fine(column, float(cell))), ""


def heading(column: Column) -> str:
    """Return title and unit of a column."""
    return f"{column.title} ({column.unit})" if column.unit else column.title
