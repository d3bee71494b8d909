"""Tables beside the records in two runs: rows over banks, the league, files beside mixes, tuned rows.

Rows pair by the columns that name them in the schema; each is held by one measure (``ramp.records.compare_side.HELD``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramp.records.compare_side import HELD, Held, Recorded
from ramp.records.row_agreement import (
    FLOOR_COLUMNS,
    FLOOR_ROW,
    Row,
    Rows,
    by_columns,
    differs,
    held_to,
    missing,
    noise_floor,
)
from ramp.records.schema import TABLES

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN_WINDOWS = "the table does not say the windows"


def compare_others(found: Rows, a: Recorded, b: Recorded) -> None:
    """Add the rows of every table that both runs have to ``found``; ``b`` is the run that promises."""
    for name in HELD:
        if name in a.others and name in b.others:
            _compare(found, name, a.others[name], b.others[name], b.banks)


def _compare(found: Rows, name: str, a: pd.DataFrame, b: pd.DataFrame, banks: pd.DataFrame | None) -> None:
    held, unique = HELD[name], TABLES[name].unique
    sides = [by_columns(frame, unique) for frame in (a, b)]
    found.only_a += [_named(name, key) for key in sides[0] if key not in sides[1]]
    found.only_b += [_named(name, key) for key in sides[1] if key not in sides[0]]
    for key, row in sides[0].items():
        if key in sides[1]:
            _compare_row(found, _named(name, key), held, row, sides[1][key], banks if name == "banks" else None)


def _compare_row(found: Rows, name: str, held: Held, row: Row, other: Row, banks: pd.DataFrame | None) -> None:
    absent = [missing(side[held.measure]) for side in (row, other)]
    reason = f"{held.measure} is on one side alone" if any(absent) else differs(row, other, held.alike)
    if all(absent):
        found.empty += 1
    elif reason:
        found.unlike[name] = reason
    else:
        floor = noise_floor(banks, _as_record(other)) if banks is not None else None
        windows = "" if held.windows_known or row[held.measure] == other[held.measure] else UNKNOWN_WINDOWS
        found.measured.append(held_to(name, held.measure, row, other, held.interval, floor, windows))


def _named(table: str, key: tuple[Any, ...]) -> str:
    return f"{table}: {' '.join(f'{part:g}' if isinstance(part, float) else str(part) for part in key)}"


def _as_record(row: Row) -> dict[str, Any]:
    """Return a row of banks.csv as ``noise_floor`` reads a record; one of another bank's widths has no floor."""
    if row["allocation_bank"] != row["bank_seed"]:
        return {**FLOOR_ROW, "stage": ""}
    return {**FLOOR_ROW, **{own: row[name] for name, own in FLOOR_COLUMNS.items()}}
