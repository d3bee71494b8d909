"""The league's and the optimum's JSON files as tables of the records.

    python -m ramp.records.collect_league league --runs R/league/M/ramp/3.65/1000/0.json ... --out R/records
    python -m ramp.records.collect_league optimum --runs R/optimum/M/halves-8/ramp.json ... \\
        --tables R/optimum/M/halves-8.json ... --out R/records

``league`` writes league.csv, league_windows.csv and league_curves.csv, ``optimum`` optimum.csv and additivity.csv.
Reads exactly the files named, measures nothing; a run that is not named has no row. A long list comes in a file or from
standard input (``--runs-from``): a command line holds some thousand names. Intervals are a block bootstrap over windows
(``ramp.evaluation.bootstrap``).
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.files import read_json, require_file
from ramp.evaluation.bootstrap import interval
from ramp.records.table import RecordsError, write_table

log = logging.getLogger("ramp.records.collect_league")

Row = dict[str, Any]

NAMES = ("model", "bank", "grid", "budget_bits", "run_evals", "allocator", "seed")
"""What names a run."""


def checked(path: Path, fields: Sequence[str]) -> dict[str, Any]:
    """A JSON file that has ``fields``; ``RecordsError`` names what is missing."""
    found = read_json(path)
    missing = [name for name in fields if not isinstance(found, dict) or name not in found]
    if missing:
        raise RecordsError(f"{path} lacks {', '.join(missing)}: it is no file of this stage, run it again")
    return found


def league_rows(run: dict[str, Any], planned: int | None = None) -> list[Row]:
    """The lines of league.csv of one run; ``planned``: runs that the league has in all."""
    name = {key: run[key] for key in NAMES}
    start = run["start"] or {}
    accepted = run.get("accepted") or {}
    shared = {
        "method": run["method"],
        "eval_tokens": run["search"]["windows"] * run["search"]["length"],
        "title": run["title"],
        "kl_start": start.get("kl_search"),
        "kl_start_held": start.get("kl_held"),
        "rtn_cost": accepted.get("increase_own"),
        "rtn_cost_text": accepted.get("increase"),
        "planned": planned,
    }
    kept = ("evals", "spent", "tokens", "kl_search", "kl_selection", "kl_held", "bytes_linear", "wall_s", "note")
    rows = []
    for row in run["rows"]:
        ends: Row = {}
        if row["windows"]:
            found = interval(row["windows"], "kl")
            ends = {"ci_low": number(found.low), "ci_high": number(found.high)}
        rows.append({**name, **shared, **{key: row[key] for key in kept}, **ends})
    return rows


def number(value: float) -> float | None:
    """A finite number, or None."""
    return value if math.isfinite(value) else None


def window_rows(run: dict[str, Any]) -> list[Row]:
    """The lines of league_windows.csv of one run."""
    name = {key: run[key] for key in NAMES}
    return [{**name, "evals": row["evals"], **window} for row in run["rows"] for window in row["windows"]]


def curve_rows(run: dict[str, Any]) -> list[Row]:
    """The lines of league_curves.csv of one run."""
    name = {key: run[key] for key in NAMES}
    return [{**name, **point} for point in run["curve"]]


def same_text(runs: Sequence[dict[str, Any]], paths: Sequence[Path]) -> None:
    """Raise ``RecordsError`` unless all runs of a model were scored on the same held-out windows, in one dtype."""
    first: dict[str, tuple[Any, Path]] = {}
    for run, path in zip(runs, paths, strict=True):
        said = (run["heldout"], run["dtype"], run["fold"], run["quantizer"], run["group_size"])
        known, where = first.setdefault(run["model"], (said, path))
        if known != said:
            raise RecordsError(
                f"{path} and {where} of {run['model']} differ in held-out windows, dtype or bank: "
                "a league compares on one text and one bank, run one of them again"
            )


def collect_league(paths: Sequence[Path], out: Path, planned: int | None = None) -> dict[str, int]:
    """Write the league's tables; return the number of rows of each. ``planned``: runs that its grids have in all."""
    runs = [checked(path, (*NAMES, "method", "rows", "curve", "start", "heldout", "dtype")) for path in paths]
    same_text(runs, paths)
    tables = {
        "league": [row for run in runs for row in league_rows(run, planned)],
        "league_windows": [row for run in runs for row in window_rows(run)],
        "league_curves": [row for run in runs for row in curve_rows(run)],
    }
    for name, rows in tables.items():
        write_table(out / f"{name}.csv", rows)
    return {name: len(rows) for name, rows in tables.items()}


def collect_optimum(paths: Sequence[Path], enumerations: Sequence[Path], out: Path) -> dict[str, int]:
    """Write optimum.csv from the runs and additivity.csv from the enumerations; return the number of rows of each."""
    runs = [checked(path, ("model", "units", "rows")) for path in paths]
    found = [checked(path, ("model", "units", "additivity", "scored_tokens")) for path in enumerations]
    tables = {
        "optimum": [{"model": run["model"], "units": run["units"], **row} for run in runs for row in run["rows"]],
        "additivity": [
            {"model": one["model"], "units": one["units"], "tokens": one["scored_tokens"], **row}
            for one in found
            for row in one["additivity"]
        ],
    }
    for name, rows in tables.items():
        write_table(out / f"{name}.csv", rows)
    return {name: len(rows) for name, rows in tables.items()}


def listed(source: str) -> list[Path]:
    """The files that ``source`` names, one a line: a file, or - for standard input."""
    text = sys.stdin.read() if source == "-" else require_file(source, "list of runs").read_text(encoding="utf-8")
    return [Path(line) for line in text.splitlines() if line]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Collect the league or the exact optimum into the records.")
    parser.add_argument("what", choices=("league", "optimum"), help="which tables")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="files of ramp.league or ramp.optimum.run")
    parser.add_argument("--runs-from", default=None, help="file with more of them, one a line; - for standard input")
    parser.add_argument("--planned", type=int, default=None, help="runs that the league has in all, made or not")
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="JSON files of ramp.optimum.enumerate")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    runs = [*args.runs, *(listed(args.runs_from) if args.runs_from else [])]
    if not runs:
        raise RecordsError("no run to collect: name at least one with --runs (none of the league has ended yet?)")
    if args.what == "league":
        counts = collect_league(runs, args.out, args.planned)
    else:
        counts = collect_optimum(runs, args.tables, args.out)
    log.info("%s", ", ".join(f"{name} {count}" for name, count in counts.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
