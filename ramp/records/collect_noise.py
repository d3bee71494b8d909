"""Collect evaluations of the float model against itself into noise.csv.

python -m ramp.records.collect_noise --runs R/noise/M/bfloat16.json ... --out R/records
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.output_path import OutputFolder
from ramp.records.runs import named, read_runs
from ramp.records.schema import TABLES
from ramp.records.table import write_tables

COLUMNS = tuple(column.name for column in TABLES["noise"].columns)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Collect the float model against itself into the records.")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="files of ramp.evaluation.noise_floor")
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    write_tables(args.out, {"noise": [named(run, COLUMNS) for run in read_runs(args.runs, COLUMNS)]})
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
