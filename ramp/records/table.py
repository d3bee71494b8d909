"""The records: every table that tables, figures, claims and the paper read, checked against its schema.

Stands on nothing in the project but files and errors. ``TABLES`` (ramp/records/schema.py) names every column
with dtype, unit and meaning; ``write_table`` sorts, checks and writes atomically; ``read_table`` checks what
it reads. The same rows give the same bytes, so a diff means a change. ``ramp.records.collect`` builds the tables.

A file is absent when its stage did not run; it holds its header only when the stage ran and found nothing.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ramp.core.errors import RampError
from ramp.core.files import read_json, write_json, write_text
from ramp.records.columns import Column, Table
from ramp.records.schema import CLAIM_FIELDS, TABLES, VERDICTS

if TYPE_CHECKING:
    import pandas as pd
from ramp.core.hints import nearest


class RecordsError(RampError):
    """A table is missing, does not have the columns of its schema, or holds a value of another dtype."""


def table(name: str) -> Table:
    """The schema of a table by name; ``RecordsError`` names the nearest."""
    try:
        return TABLES[name]
    except KeyError:
        raise RecordsError(f"no table '{name}' in the records{nearest(name, TABLES)}") from None


def _instance(column: Column, name: str) -> str | None:
    """The text or task for which ``name`` is the instance of a ``{text}`` or ``{task}`` column, else None."""
    prefix = column.name.partition("{")[0]
    return name[len(prefix) :] if name.startswith(prefix) and len(name) > len(prefix) else None


def match_column(schema: Table, name: str) -> tuple[Column, str | None] | None:
    """The schema's column that ``name`` is, and its text or task. The longest prefix wins (ppl_low_ over ppl_)."""
    templates = []
    for column in schema.columns:
        if column.over is None:
            if column.name == name:
                return column, None
        elif _instance(column, name) is not None:
            templates.append(column)
    if not templates:
        return None
    column = max(templates, key=lambda each: len(each.name.partition("{")[0]))
    return column, _instance(column, name)


def instances(names: Iterable[str], over: Literal["text", "task"]) -> list[str]:
    """The texts or tasks that the columns ``names`` of records.csv speak of, sorted."""
    found = set()
    for name in names:
        match = match_column(TABLES["records"], name)
        if match and match[0].over == over and match[1]:
            found.add(match[1])
    return sorted(found)


def expand(schema: Table, names: Sequence[str]) -> list[tuple[str, Column]]:
    """All (name, column) that a table with the columns ``names`` must have, in order.

    Raises:
        RecordsError: a name that the schema does not know; the message holds the nearest that it does.
    """
    over: dict[str, set[str]] = {"text": set(), "task": set()}
    known = [column.name for column in schema.columns]
    for name in names:
        match = match_column(schema, name)
        if match is None:
            raise RecordsError(f"{schema.file} has no column '{name}' in its schema{nearest(name, known)}")
        if match[0].over and match[1]:
            over[match[0].over].add(match[1])
    full: list[tuple[str, Column]] = []
    done: set[str] = set()
    for column in schema.columns:
        kind = column.over
        if kind is None:
            full.append((column.name, column))
        elif kind not in done:  # all columns of one text together, text after text
            done.add(kind)
            group = [each for each in schema.columns if each.over == kind]
            full += [(c.name.replace(f"{{{kind}}}", value), c) for value in sorted(over[kind]) for c in group]
    return full


def _is_missing(value: Any) -> bool:
    if value is None or value is _pandas().NA:
        return True
    return isinstance(value, float) and math.isnan(value)


def _pandas() -> Any:
    import pandas

    return pandas


def _cell(value: Any, name: str, column: Column, where: str) -> str:
    """One value as the file holds it; floats in Python's shortest exact form, missing as nothing."""
    if hasattr(value, "item"):  # numpy scalars
        value = value.item()
    if _is_missing(value) or (value == "" and column.dtype != "str"):
        if column.required:
            raise RecordsError(f"{where}: column '{name}' is empty and must not be")
        return ""
    ok: bool
    if column.dtype == "str":
        ok, text = isinstance(value, str), str(value)
        if column.required and not text:
            raise RecordsError(f"{where}: column '{name}' is empty and must not be")
    elif column.dtype == "bool":
        ok, text = isinstance(value, bool), "true" if value else "false"
    elif column.dtype == "int":
        ok = not isinstance(value, bool) and isinstance(value, (int, float)) and float(value).is_integer()
        text = str(int(value)) if ok else ""
    else:
        ok = not isinstance(value, bool) and isinstance(value, (int, float))
        text = repr(float(value)) if ok else ""
    if not ok:
        raise RecordsError(f"{where}: column '{name}' should be {column.dtype} and holds {value!r}")
    return text


def write_table(
    path: str | Path, rows: pd.DataFrame | Sequence[Mapping[str, Any]], schema: Table | None = None
) -> None:
    """Write a table: checked, sorted by its unique columns, atomically, the same rows giving the same bytes.

    Args:
        path: ``.../{table}.csv``; the stem names the schema unless ``schema`` is given.
        rows: a data frame or a list of mappings; absent columns become empty.

    Raises:
        RecordsError: unknown column, value of another dtype, empty required value, or two rows of one name.
    """
    path = Path(path)
    schema = schema or table(path.stem)
    dicts: list[Mapping[Any, Any]] = list(rows.to_dict("records")) if hasattr(rows, "to_dict") else list(rows)
    if hasattr(rows, "columns"):
        names = [str(name) for name in rows.columns]
    else:
        names = list(dict.fromkeys(name for row in dicts for name in row))
    columns = expand(schema, names)
    seen: dict[tuple[Any, ...], None] = {}
    keyed = []
    for number, row in enumerate(dicts):
        where = f"{schema.file}, row {number}"
        cells = {name: _cell(row.get(name), name, column, where) for name, column in columns}
        key = tuple(_sort_value(cells[name], match_column(schema, name)) for name in schema.unique)
        if key in seen:
            said = ", ".join(f"{name}={cells[name]}" for name in schema.unique)
            raise RecordsError(f"{schema.file} would hold two rows named {said}: one input was given twice")
        seen[key] = None
        keyed.append((key, [cells[name] for name, _ in columns]))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    writer.writerows(cells for _, cells in sorted(keyed))
    write_text(path, buffer.getvalue())


def _sort_value(cell: str, match: tuple[Column, str | None] | None) -> Any:
    if match and match[0].dtype in ("int", "float"):
        return float(cell)
    return cell


def _parse(cell: str, name: str, column: Column, where: str) -> Any:
    if cell == "":
        if column.required:
            raise RecordsError(f"{where}: column '{name}' is empty and must not be; make the records again")
        return "" if column.dtype == "str" else None
    try:
        if column.dtype == "int":
            return int(cell)
        if column.dtype == "float":
            return float(cell)
        if column.dtype == "bool":
            return {"true": True, "false": False}[cell]
    except (ValueError, KeyError):
        raise RecordsError(
            f"{where}: column '{name}' should be {column.dtype} and holds '{cell}'; make the records again"
        ) from None
    return cell


def read_table(path: str | Path, schema: Table | None = None) -> pd.DataFrame:
    """Read a table and check it: columns, dtypes, required values, unique rows.

    Returns:
        A data frame. ``int`` columns are Int64, ``bool`` boolean (both may hold NA), ``float`` float64 with
        NaN for empty, ``str`` str with "" for empty.

    Raises:
        RecordsError: no such file, a column missing or unknown (with the nearest name), a value of another dtype.
    """
    pandas = _pandas()
    path = Path(path)
    schema = schema or table(path.stem)
    if not path.is_file():
        raise RecordsError(
            f"no {schema.file} at {path.parent}: its stage did not run, or the records folder is another"
        )
    with path.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    if not lines:
        raise RecordsError(f"{path} is empty, without even its header: make the records again")
    header, body = lines[0], lines[1:]
    columns = expand(schema, header)
    for name, _ in columns:
        if name not in header:
            raise RecordsError(f"{path} lacks the column '{name}'{nearest(name, header)}: make the records again")
    data: dict[str, list[Any]] = {name: [] for name, _ in columns}
    index = {name: header.index(name) for name, _ in columns}
    seen = set()
    for number, line in enumerate(body, start=2):
        where = f"{path}, line {number}"
        if len(line) != len(header):
            raise RecordsError(f"{where} has {len(line)} cells for {len(header)} columns: make the records again")
        for name, column in columns:
            data[name].append(_parse(line[index[name]], name, column, where))
        key = tuple(line[index[name]] for name in schema.unique)
        if key in seen:
            raise RecordsError(f"{where} repeats the row {', '.join(key)}: make the records again")
        seen.add(key)
    kinds = {"int": "Int64", "float": "float64", "bool": "boolean", "str": "object"}
    return pandas.DataFrame({n: pandas.Series(data[n], dtype=kinds[c.dtype]) for n, c in columns})


def read_all(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Every table that a records folder holds, by name; absent ones are left out (their stage did not run)."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordsError(f"no records at {folder}: run the study, or set records=published")
    return {
        name: read_table(folder / schema.file) for name, schema in TABLES.items() if (folder / schema.file).exists()
    }


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
    return claims


def write_claims(path: str | Path, claims: Sequence[Mapping[str, Any]]) -> None:
    """Write claims.json, checked and sorted by the number in the id."""
    rows = _check_claims([dict(claim) for claim in claims], str(path))
    write_json(path, sorted(rows, key=lambda claim: (int(re.sub(r"\D", "", claim["id"]) or 0), claim["id"])))


def read_claims(path: str | Path) -> list[dict[str, Any]]:
    """Read claims.json and check its fields."""
    return _check_claims(read_json(path), str(path))
