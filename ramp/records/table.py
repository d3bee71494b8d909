"""Read and write the tables of the records, checked against their schema (``ramp.records.schema.TABLES``).

``write_table`` sorts, checks and writes atomically; ``read_table`` checks what it reads. The same rows give the same
bytes, so a diff means a change. ``ramp.records.collect`` builds the tables.

A file is absent when its stage did not run; it holds its header only when the stage ran and found nothing.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ramp.core.atomic_files import DamagedFile, json_text, parse_json, read_json, write_json, write_text
from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest
from ramp.records.column_types import Column, Table
from ramp.records.schema import CLAIM_FIELDS, TABLES, VERDICTS

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("ramp.records")


class RecordsError(RampError):
    """A table is missing, does not have the columns of its schema, or holds a value of another dtype."""


def table(name: str) -> Table:
    """Return the schema of a table by name; ``RecordsError`` names the nearest."""
    try:
        return TABLES[name]
    except KeyError:
        raise RecordsError(f"no table '{name}' in the records{nearest(name, TABLES)}") from None


def match_column(schema: Table, name: str) -> tuple[Column, str | None] | None:
    """Return the schema's column that ``name`` is, and its text or task, or None.

    The longest prefix wins: ``ppl_low_wikitext2`` is an instance of ``ppl_low_{text}`` and not of ``ppl_{text}``.
    """
    found: tuple[int, Column, str | None] = (-1, schema.columns[0], None)
    for column in schema.columns:
        prefix = column.name.partition("{")[0]
        if column.over is None and column.name == name:
            return column, None
        if column.over and name.startswith(prefix) and len(name) > len(prefix) > found[0]:
            found = (len(prefix), column, name[len(prefix) :])
    return None if found[0] < 0 else found[1:]


def instances(names: Iterable[str], over: Literal["text", "task"]) -> list[str]:
    """Return the texts or tasks that the columns ``names`` of records.csv speak of, sorted."""
    found = set()
    for name in names:
        match = match_column(TABLES["records"], name)
        if match and match[0].over == over and match[1]:
            found.add(match[1])
    return sorted(found)


def expand(schema: Table, names: Sequence[str], where: str | Path = "") -> list[tuple[str, Column]]:
    """Return all (name, column) that a table with the columns ``names`` must have, in order; ``where``: its file.

    Raises:
        RecordsError: a name that the schema does not know; the message holds the nearest that it does.
    """
    over: dict[str, set[str]] = {"text": set(), "task": set()}
    known = [column.name for column in schema.columns]
    for name in names:
        match = match_column(schema, name)
        if match is None:
            raise RecordsError(f"{where or schema.file}: no column '{name}' in the schema{nearest(name, known)}")
        if match[0].over and match[1]:
            over[match[0].over].add(match[1])
    full: list[tuple[str, Column]] = []
    done: set[str] = set()
    for column in schema.columns:
        kind = column.over
        if kind is None and (not column.optional or column.name in names):
            full.append((column.name, column))
        elif kind and kind not in done:  # all columns of one text together, text after text
            done.add(kind)
            group = [each for each in schema.columns if each.over == kind]
            full += [(c.name.replace(f"{{{kind}}}", value), c) for value in sorted(over[kind]) for c in group]
    return full


_PANDAS = {"int": "Int64", "float": "float64", "bool": "boolean", "str": "object"}
"""dtype of the schema -> dtype of the data frame."""

_NUMBERS = {"integer", "floating", "mixed-integer-float", "empty"}
_KINDS = {"int": _NUMBERS, "float": _NUMBERS, "bool": {"boolean", "empty"}, "str": {"string", "empty"}}
"""dtype of the schema -> what ``pandas.api.types.infer_dtype`` may find in a column of it."""

_PARSE: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "bool": {"true": True, "false": False}.__getitem__,
    "str": str,
}


def _typed(values: Sequence[Any], dtype: str) -> pd.Series:
    """Return Python values as a series of a schema's dtype; ``TypeError`` or ``ValueError`` for another one."""
    import pandas

    series = pandas.Series(values, dtype=object)
    if pandas.api.types.infer_dtype(series, skipna=True) not in _KINDS[dtype]:
        raise TypeError(dtype)
    try:
        return series.fillna("") if dtype == "str" else series.astype(_PANDAS[dtype])
    except OverflowError as error:  # an integer of more than 64 bits
        raise ValueError(str(error)) from None


def _parsed(cells: Sequence[Any], dtype: str) -> pd.Series:
    """Return the cells of a file as a series of a schema's dtype."""
    parse = _PARSE[dtype]
    return _typed([None if cell is None else parse(cell) for cell in cells], dtype)


def _checked(
    values: Sequence[Any], name: str, column: Column, where: Callable[[int], str], convert: Callable[..., pd.Series]
) -> pd.Series:
    """Return one column converted; ``RecordsError`` names the first row (``where``) that is empty or of another dtype.

    An empty string is a missing value.
    """
    import pandas

    values = [None if value is pandas.NA or value != value or value == "" else value for value in values]
    if column.required and None in values:
        raise RecordsError(f"{where(values.index(None))}: column '{name}' is empty and must not be")
    try:
        return convert(values, column.dtype)
    except (TypeError, ValueError, KeyError):
        for place, value in enumerate(values):
            try:
                convert([value], column.dtype)
            except (TypeError, ValueError, KeyError):
                raise RecordsError(
                    f"{where(place)}: column '{name}' should be {column.dtype} and holds {value!r}"
                ) from None
        raise


def write_table(
    path: str | Path, rows: pd.DataFrame | Sequence[Mapping[str, Any]], schema: Table | None = None
) -> None:
    """Write a table: checked, sorted by its unique columns, atomically; the same rows give the same bytes.

    Args:
        path: ``.../{table}.csv``; the stem names the schema unless ``schema`` is given.
        rows: a data frame or a list of mappings; absent columns become empty. Floats are written in Python's shortest
            exact form, missing values as nothing.

    Raises:
        RecordsError: unknown column, value of another dtype, empty required value, or two rows of one name.
    """
    import pandas

    path = Path(path)
    schema = schema or table(path.stem)
    given = rows if isinstance(rows, pandas.DataFrame) else pandas.DataFrame(list(rows), dtype=object)
    columns = expand(schema, [str(name) for name in given.columns])
    given = given.astype(object).reindex(columns=[name for name, _ in columns])
    frame = pandas.DataFrame(
        {
            name: _checked(given[name].tolist(), name, column, lambda row: f"{schema.file}, row {row}", _typed)
            for name, column in columns
        }
    )
    unique = list(schema.unique)
    twice = frame[frame.duplicated(unique)]
    if len(twice):
        named = ", ".join(f"{name}={twice[name].iloc[0]}" for name in unique)
        raise RecordsError(f"{schema.file} would hold two rows named {named}: one input was given twice")
    frame = frame.sort_values(unique)
    for name, column in columns:
        if column.dtype == "bool":
            frame[name] = frame[name].map({True: "true", False: "false"})
    write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def write_tables(folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int]:
    """Write every table into ``folder``; return, and log, the number of rows of each."""
    for name, rows in tables.items():
        write_table(folder / f"{name}.csv", rows)
    counts = {name: len(rows) for name, rows in tables.items()}
    log.info("%s", ", ".join(f"{name} {count}" for name, count in counts.items()))
    return counts


def read_table(path: str | Path, schema: Table | None = None) -> pd.DataFrame:
    """Read a table and check it: columns, dtypes, required values, unique rows.

    Returns:
        A data frame. ``int`` columns are Int64, ``bool`` boolean (both may hold NA), ``float`` float64 with
        NaN for empty, ``str`` str with "" for empty.

    Raises:
        RecordsError: no such file, a column missing or unknown (with the nearest name), a value of another dtype.
    """
    import numpy
    import pandas

    path = Path(path)
    schema = schema or table(path.stem)
    if not path.is_file():
        raise RecordsError(
            f"no {schema.file} at {path.parent}: its stage did not run, or the records folder is another"
        )
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            lines = list(csv.reader(stream, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:  # a stray quote, which takes the rest of a table for one cell
        raise RecordsError(f"{path} is no table of the records ({error}): make the records again") from None
    if not lines:
        raise RecordsError(f"{path} is empty, without even its header: make the records again")
    header, body = lines[0], lines[1:]
    columns = expand(schema, header, path)
    for name, _ in columns:
        if name not in header:
            raise RecordsError(f"{path} lacks the column '{name}'{nearest(name, header)}: make the records again")

    def where(place: int) -> str:
        return f"{path}, line {place + 2}"

    for place, line in enumerate(body):
        if len(line) != len(header):
            raise RecordsError(f"{where(place)} has {len(line)} cells for {len(header)} columns")
    cells = dict(zip(header, zip(*body, strict=True), strict=True)) if body else dict.fromkeys(header, ())
    data = {}
    for name, column in columns:
        codes, distinct = pandas.factorize(numpy.array(cells[name], dtype=object))  # few values, many rows

        def first(place: int, name: str = name, distinct: Any = distinct) -> str:
            return where(cells[name].index(distinct[place]))

        data[name] = _checked(distinct, name, column, first, _parsed).take(codes).reset_index(drop=True)
    frame = pandas.DataFrame(data)
    twice = frame.duplicated(list(schema.unique))
    if twice.any():
        place = int(twice.to_numpy().argmax())
        raise RecordsError(f"{where(place)} repeats the row {', '.join(cells[name][place] for name in schema.unique)}")
    return frame


def read_all(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read every table of a records folder, by name; absent ones are left out (their stage did not run)."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordsError(f"no records at {folder}: run the study, or set records=published")
    return {
        name: read_table(folder / schema.file) for name, schema in TABLES.items() if (folder / schema.file).exists()
    }


@dataclass(frozen=True)
class Claim:
    """Types of ``CLAIM_FIELDS``."""

    id: str
    verdict: str
    scale: str
    measure: str
    value: float | None
    margin: tuple[float, float] | None
    rows: list[str]


def _check_claims(claims: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(claims, list):
        raise RecordsError(f"{where} should be a list of claims")
    for claim in claims:
        for name in claim:
            if name not in CLAIM_FIELDS:
                raise RecordsError(f"{where}: a claim has no field '{name}'{nearest(name, CLAIM_FIELDS)}")
        for name in CLAIM_FIELDS:
            if name not in claim:
                raise RecordsError(f"{where}: claim {claim.get('id', '?')} lacks the field '{name}'")
        if claim["verdict"] not in VERDICTS:
            raise RecordsError(
                f"{where}: verdict '{claim['verdict']}' of {claim['id']} is none of {', '.join(VERDICTS)}"
            )
    try:
        parse_json(json_text(claims), list[Claim], where)
    except DamagedFile as error:
        raise RecordsError(f"{error}: judge the claims again (python -m ramp claims)") from None
    return claims


def write_claims(path: str | Path, claims: Sequence[Mapping[str, Any]]) -> None:
    """Write claims.json, checked and sorted by the number in the id."""
    rows = _check_claims([dict(claim) for claim in claims], str(path))
    write_json(path, sorted(rows, key=lambda claim: (int(re.sub(r"\D", "", claim["id"]) or 0), claim["id"])))


def read_claims(path: str | Path) -> list[dict[str, Any]]:
    """Read claims.json and check its fields."""
    return _check_claims(read_json(path, list[dict[str, Any]]), str(path))
