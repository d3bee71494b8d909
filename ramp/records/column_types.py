"""Data types of a table of the records and of its columns; the tables are in ``ramp.records.schema``."""

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


INTERVAL = (
    Column("ci_low", "float", "2.5 % end of the block bootstrap"),
    Column("ci_high", "float", "97.5 % end"),
)
"""The interval of a table's main number."""

MODEL = Column("model", "str", "short name of the model, e.g. smollm2-135m", required=True)

SUMS = (
    Column("window", "int", "index of the window; the same tokens for all rows of a model", required=True),
    Column("tokens", "int", "predicted tokens: window length - 1", "tokens", True),
    Column("nll", "float", "sum of negative log-likelihoods", "nats"),
    Column("kl", "float", "sum of KL(float || row)", "nats"),
)
"""One evaluated window: the sums that intervals are bootstrapped from."""
