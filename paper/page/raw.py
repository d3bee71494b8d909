"""A table of the records as it is, as a sheet of the results page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paper.page.sheet import Cell, Column, Line, Sheet
from ramp.records.schema import TABLES
from ramp.records.table import match_column

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 5
"""Significant digits of a number; the file has all of them."""


def raw_sheet(name: str, frame: pd.DataFrame) -> Sheet:
    """Return a table without the columns that nothing fills; help on a column is its meaning in the schema."""
    schema = TABLES[name]
    filled = [key for key in frame if (frame[key].notna() & (frame[key] != "")).any()]
    columns = []
    for key in filled:
        match = match_column(schema, key)
        column = match[0] if match else schema.columns[0]
        kind = "number" if column.dtype in ("int", "float") else "text"
        unit = f" ({column.unit})" if column.unit else ""
        columns.append(Column(key, key, kind, None, f"{column.meaning}{unit}"))
    rows = frame[filled].astype(object).to_dict("records")
    lines = [Line({key: _plain(value) for key, value in row.items()}, [place]) for place, row in enumerate(rows)]
    return Sheet(name, f"{schema.file}: {schema.meaning}", "", tuple(columns), lines)


def _plain(value: Any) -> Cell:
    if value is None or str(value) in ("", "nan", "<NA>"):
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return value if isinstance(value, str) else int(value)
