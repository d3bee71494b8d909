"""What a table is: title, columns with unit and format, rows, footnotes. Rendering is ``paper.tables.render``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from paper.intervals import Estimate

Cell = str | int | float | bool | None | Estimate
MISSING = "–"
"""What stands where there is no number."""


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
    """One table. ``title`` says what is shown and how much it rests on; without rows, ``absent`` says why."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()
    footnotes: tuple[str, ...] = ()
    absent: str = "There are no rows for this table in the records."
    widths: Mapping[str, str] = field(default_factory=dict)

    def only(self, *keys: str) -> Table:
        """The table with the columns of ``keys`` alone, in its own order."""
        return replace(self, columns=tuple(column for column in self.columns if column.key in keys))

    def filled(self) -> Table:
        """The table without the columns that no row fills."""
        used = [c for c in self.columns if any(row.cells.get(c.key) not in (None, "") for row in self.rows)]
        return replace(self, columns=tuple(used))


def number(value: float, column: Column) -> str:
    """A number as the column shows it, with a true minus sign and thousands apart."""
    shown = f"{value * column.scale:{'+' if column.signed else ''},.{column.digits}f}"
    if float(shown.replace(",", "")) == 0:
        shown = shown.lstrip("+-")
    return shown.replace("-", "−")


def parts(cell: Cell, column: Column) -> tuple[str, str]:
    """A cell as (main text, interval or nothing)."""
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
    """Title and unit of a column."""
    return f"{column.title} ({column.unit})" if column.unit else column.title
