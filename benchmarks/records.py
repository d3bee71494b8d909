"""JSON pieces of benchmarks and parity as one table of the records.

    python -m benchmarks.records --table benchmarks --pieces FILE.json ... --out R/records/benchmarks.csv

Two pieces that hold one row are an error, told by ``ramp.records``, as is a piece of another table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchmarkError
from ramp import cli
from ramp.files import read_json
from ramp.records import write_table

TABLES = ("benchmarks", "parity")


def gather(table: str, pieces: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of all pieces; ``BenchmarkError`` for a file that is no piece of this table."""
    rows: list[dict[str, Any]] = []
    for path in pieces:
        piece = read_json(path)
        if not isinstance(piece, dict) or piece.get("table") != table or not isinstance(piece.get("rows"), list):
            raise BenchmarkError(f"{path} is no piece of {table}: make it with one of python -m benchmarks.NAME")
        rows += piece["rows"]
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Merge pieces into a table of the records.")
    parser.add_argument("--table", choices=TABLES, required=True, help="which table")
    parser.add_argument("--pieces", type=Path, nargs="+", required=True, help="JSON files of benchmarks")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    args = parser.parse_args(argv)
    write_table(args.out, gather(args.table, args.pieces))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
