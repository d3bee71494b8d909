"""Merge JSON pieces of benchmarks and parity into one table of the records.

    python -m benchmarks.records --table benchmarks --pieces R/compared/NAME.json ... --out R/records/benchmarks.csv

A piece that carries the name of one in ``benchmarks/plan.py`` gets that one's Snakemake target as its command,
in any folder: the target makes model, texts and environment too. A piece that was measured with other options than the
plan's is refused, for the target would not make it again. Other pieces keep their own command.

Two pieces with one row are an error, as is a piece of another table.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.causes import explained
from benchmarks.measure import BenchmarkError
from benchmarks.plan import PIECES, Planned
from ramp.core import cli
from ramp.core.atomic_files import read_json
from ramp.core.output_path import OutputFile
from ramp.records.table import write_table

TABLES = ("benchmarks", "parity")


def options_of(words: Sequence[str]) -> dict[str, list[str]]:
    """Return option -> its values, of the words of a command line."""
    found: dict[str, list[str]] = {}
    values: list[str] = []  # words before the first option are dropped
    for word in words:
        if word.startswith("--"):
            values = found.setdefault(word, [])
        else:
            values.append(word)
    return found


def check_planned(path: Path, command: str, planned: Planned) -> None:
    """Raise ``BenchmarkError`` where ``command`` measured something else than the plan's piece of this name."""
    words = shlex.split(command)
    if f"benchmarks.{planned.module}" not in words:
        raise BenchmarkError(f"{path} was made by '{command}', the plan makes it by benchmarks.{planned.module}")
    measured = options_of(words)
    for option, values in options_of(shlex.split(planned.options)).items():
        if measured.get(option) != values:
            there = " ".join([option, *measured[option]]) if option in measured else f"no {option}"
            raise BenchmarkError(
                f"{path} was measured with {there}, benchmarks/plan.py says {' '.join([option, *values])}: "
                "measure it again, or give the piece a name of its own"
            )


def target_command(name: str, results: str, configfiles: Sequence[str]) -> str:
    """Return the command that makes a piece of the plan; ``--configfile`` is last, it takes all words after it."""
    files = ["--configfile", *configfiles] if configfiles else []
    return shlex.join(["snakemake", "--cores", "all", f"{results}/compared/{name}.json", *files])


def gather(
    table: str, pieces: Sequence[Path], results: str = "results", configfiles: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the rows of all pieces, with commands that make them again and, of parity, known causes in their notes.

    ``results`` and ``configfiles`` are those of the study that the commands are to start.

    Raises:
        BenchmarkError: a file is no piece of this table, or was measured otherwise than the plan's of its name.
    """
    rows: list[dict[str, Any]] = []
    for path in pieces:
        piece = read_json(path, dict[str, Any])
        if not isinstance(piece, dict) or piece.get("table") != table or not isinstance(piece.get("rows"), list):
            raise BenchmarkError(f"{path} is no piece of {table}: make it with one of python -m benchmarks.NAME")
        planned = PIECES.get(path.stem)
        for row in piece["rows"]:
            if planned is not None:
                check_planned(path, row["command"], planned)
                row = {**row, "command": target_command(path.stem, results, configfiles)}
            rows.append(explained(row) if table == "parity" else row)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Merge pieces into a table of the records.")
    parser.add_argument("--table", choices=TABLES, required=True, help="which table")
    parser.add_argument("--pieces", type=Path, nargs="+", required=True, help="JSON files of benchmarks")
    parser.add_argument("--configfiles", nargs="*", default=[], help="the study's, where they are not the default one")
    parser.add_argument("--results", default="results", help="the study's results folder, as its targets name it")
    parser.add_argument("--out", type=OutputFile, required=True, help="CSV file to write")
    args = parser.parse_args(argv)
    write_table(args.out, gather(args.table, args.pieces, args.results, args.configfiles))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
