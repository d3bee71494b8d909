"""A table as data: title, columns with unit and format, rows, footnotes. ``paper.tables.render`` prints it."""

from __future__ import annotations

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


def number(value: float, column: Column) -> str:
    """Return a number as the column shows it, with a true minus sign and thousands separators."""
    shown = f"{value * column.scale:{'+' if column.signed else ''},.{column.digits}f}"
    if float(shown.replace(",", "")) == 0:
        shown = shown.lstrip("+-")
    return shown.replace("-", "−")


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
            return number(cell.value, column), ""
        return number(cell.value, column), f"[{number(cell.low, column)}, {number(cell.high, column)}]"
    return number(float(cell), column), ""


def heading(column: Column) -> str:
    """Return title and unit of a column."""
    return f"{column.title} ({column.unit})" if column.unit else column.title
