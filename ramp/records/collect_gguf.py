"""Collect files at the bytes of llama.cpp's mixes into gguf.csv and gguf_checks.csv.

    python -m ramp.records.collect_gguf --rows R/gguf/M/rows.json ... --out R/records

Reads the named files and the ``checks.json`` beside each, and measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import read_json
from ramp.core.output_path import OutputFolder
from ramp.records.runs import check_fields, named
from ramp.records.schema import TABLES
from ramp.records.table import RecordsError, write_tables

CHECKS = "checks.json"
WITHOUT_RIVAL = "none"
"""``rival`` in the row of a mix."""

COLUMNS, CHECK_COLUMNS = (tuple(column.name for column in TABLES[name].columns) for name in ("gguf", "gguf_checks"))


def read_list(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return a JSON list of objects with these ``columns`` alone; ``RecordsError`` where something else lies there."""
    found = read_json(path, list[dict[str, Any]])
    for each in found:
        check_fields(each, columns, path)
    return [named(each, columns) for each in found]


def collect(paths: Sequence[Path], out: Path) -> dict[str, int]:
    """Write both tables; return the number of rows of each."""
    rows, checks = [], []
    for path in paths:
        own = read_list(path, COLUMNS)
        if not all(isinstance(row["model"], str) for row in own):
            raise RecordsError(f"{path} has a row without the name of its model: run its stage again")
        models = {row["model"] for row in own}
        if len(models) != 1:
            raise RecordsError(f"{path} has rows of {len(models)} models instead of one: run its stage again")
        about = {"model": models.pop()}
        rows += [row | {"rival": row["rival"] or WITHOUT_RIVAL} for row in own]
        checks += [about | check for check in read_list(path.with_name(CHECKS), CHECK_COLUMNS[1:])]
    return write_tables(out, {"gguf": rows, "gguf_checks": checks})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Collect files at the bytes of llama.cpp's mixes into the records.")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="rows of every model, checks beside them")
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    collect(args.rows, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
