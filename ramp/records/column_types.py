"""Data types of a table of the records and of its columns; the tables are in ``ramp.records.schema``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

Dtype = Literal["str", "int", "float", "bool"]


@dataclass(frozen=True)
class Column:
    """One column. ``{text}`` or ``{task}`` in the name stands for one column per evaluated text or task."""

    name: str
    dtype: Dtype
    meaning: str
    unit: str = ""
    required: bool = False  # never empty
    optional: bool = False  # a table may lack it: older ones were written before it was there

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


_HEAD = re.compile(r"(\w+) \((.+)\): (.+)")
_LINE = re.compile(r"(\S+) (str|int|float|bool)([!?]?)(?: \[(.+)\])?: (.+)")


def read_schema(text: str) -> tuple[dict[str, tuple[Column, ...]], dict[str, Table]]:
    """Read groups of columns and tables by name from blocks of lines, as ``ramp.records.schema`` writes them."""
    groups: dict[str, tuple[Column, ...]] = {}
    tables: dict[str, Table] = {}
    for block in text.strip().split("\n\n"):
        head, *lines = block.splitlines()
        columns: list[Column] = []
        for line in lines:
            if match := _LINE.fullmatch(line.strip()):
                name, dtype, mark, unit, meaning = match.groups()
                columns.append(Column(name, cast(Dtype, dtype), meaning, unit or "", mark == "!", mark == "?"))
            else:
                columns += groups[line.strip().removeprefix("*")]
        if match := _HEAD.fullmatch(head):
            unique: list[str] = []
            for word in match[2].split():
                unique += [column.name for column in groups[word[1:]]] if word.startswith("*") else [word]
            tables[match[1]] = Table(match[1], match[3], tuple(columns), tuple(unique))
        else:
            groups[head.removeprefix("*")] = tuple(columns)
    return groups, tables
