"""Tables of a study that holds too little to be evidence: its numbers stand, its readings and p values do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paper.tables.captions import CORRECTED
from paper.tables.model import Row, Table
from ramp.records.schema import NO_EVIDENCE

JUDGING = "reading"
"""Column that says of a comparison who is better."""

OWN_ROW = "the study's own"
"""What stands in that column for the row that others are compared with."""

CORRECTING = "p"
"""Column of p values."""

NOT_MEASURED = ("choices", "quoted", "sizes")
"""Beginnings of the names of tables that hold no measurement of a study."""


def unjudged(table: Table, missing: Sequence[str]) -> Table:
    """Return the table without readings and p values, marked by what the study lacks; as it is where nothing lacks."""
    if not missing or table.name.startswith(NOT_MEASURED):
        return table
    mark = f"{NO_EVIDENCE.capitalize()}: {'; '.join(missing)}."
    return replace(
        table,
        columns=tuple(column for column in table.columns if column.key != CORRECTING),
        rows=tuple(_unread(row) for row in table.rows),
        footnotes=(mark, *(note for note in table.footnotes if note != CORRECTED)),
    )


def _unread(row: Row) -> Row:
    judged = row.cells.get(JUDGING) not in (None, "", OWN_ROW)
    return replace(row, cells={**row.cells, JUDGING: NO_EVIDENCE}) if judged else row
