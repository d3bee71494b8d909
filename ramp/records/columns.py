"""What a table of the records and its columns are. Data types only; the tables are in ``ramp.records.schema``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Dtype = Literal["str", "int", "float", "bool"]


@dataclass(frozen=True)
class Column:
    """One column. ``{text}`` or ``{task}`` in the name stands for one column per evaluated text or task."""

    name: str
    dtype: Dtype
    meaning: str
    unit: str = ""
    required: bool = False  # never empty

    @property
    def over(self) -> str | None:
        """``"text"``, ``"task"``, or None for a plain column."""
        found = re.search(r"\{(\w+)\}", self.name)
        return found.group(1) if found else None


@dataclass(frozen=True)
class Table:
    """One CSV file: its columns in order, and the columns that name a row (unique, and the sort order)."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    unique: tuple[str, ...]

    @property
    def file(self) -> str:
        """The file's name inside the records folder."""
        return f"{self.name}.csv"


def column(name: str, dtype: Dtype, meaning: str, unit: str = "", required: bool = False) -> Column:
    """A column, by position."""
    return Column(name, dtype, meaning, unit, required)


INTERVAL = (
    column("ci_low", "float", "2.5 % end of the block bootstrap"),
    column("ci_high", "float", "97.5 % end"),
)
"""The interval of a table's main number."""
