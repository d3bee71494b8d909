"""Collect the JSON files of the league and of the exact optimum into tables of the records.

    python -m ramp.records.collect_league league --runs R/league/M/ramp/3.65/1000/0.json ... --out R/records
    python -m ramp.records.collect_league optimum --runs R/optimum/M/halves-8/ramp.json ... \\
        --tables R/optimum/M/halves-8.json ... --out R/records

``league`` writes league.csv, league_windows.csv, league_curves.csv and league_banks.csv, ``optimum`` optimum.csv and
additivity.csv.
Reads exactly the files named and measures nothing; a run that is not named has no row. A long list comes in a file or
from standard input (``--runs-from``): a command line holds some thousand names. Intervals are a block bootstrap over
windows (``ramp.evaluation.bootstrap``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import finite, read_text
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.evaluation.bootstrap import interval
    from ramp.records.runs import Run, check_alike, named, read_runs
    from ramp.records.schema import RUN_NAMES
    from ramp.records.table import write_tables

KEPT = ("evals", "spent", "tokens", "kl_search", "kl_selection", "kl_held", "bytes_linear", "wall_s", "note")
"""Fields of a checkpoint that league.csv takes over."""


def league_rows(run: Run, planned: int | None = None) -> list[Run]:
    """Return the lines of league.csv of one run; ``planned``: runs that the league has in all."""
    start, accepted = run["start"] or {}, run.get("accepted") or {}
    shared = named(run, (*RUN_NAMES, "method", "title")) | {
        "eval_tokens": run["search"]["windows"] * run["search"]["length"],
        "kl_start": start.get("kl_search"),
        "kl_start_held": start.get("kl_held"),
        "rtn_cost": accepted.get("increase_own"),
        "rtn_cost_text": accepted.get("increase"),
        "planned": planned,
    }
    rows = []
    for row in run["rows"]:
        found = interval(row["windows"], "kl") if row["windows"] else None
        ends = {"ci_low": finite(found.low), "ci_high": finite(found.high)} if found else {}
        rows.append(shared | named(row, KEPT) | ends)
    return rows


def collect_league(paths: Sequence[Path], out: Path, planned: int | None = None) -> dict[str, int]:
    """Write the league's tables; return the number of rows of each. ``planned``: runs that its grids have in all."""
    runs = read_runs(paths, (*RUN_NAMES, "method", "rows", "curve", "start", "heldout", "dtype"))
    setting = ("heldout", "dtype", "fold", "quantizer", "group_size")
    check_alike(runs, paths, lambda run: named(run, setting), "held-out windows, dtype or bank")
    keys = [named(run, RUN_NAMES) for run in runs]
    windows = [
        key | {"evals": row["evals"]} | window
        for key, run in zip(keys, runs, strict=True)
        for row in run["rows"]
        for window in row["windows"]
    ]
    tables = {
        "league": [row for run in runs for row in league_rows(run, planned)],
        "league_windows": windows,
        "league_banks": [
            {"model": model, "bank": bank, "bank_seed": draw}
            for model, bank, draw in sorted({(run["model"], run["bank"], run.get("draw", 0)) for run in runs})
        ],
        "league_curves": [key | point for key, run in zip(keys, runs, strict=True) for point in run["curve"]],
    }
    return write_tables(out, tables)


def collect_optimum(paths: Sequence[Path], enumerations: Sequence[Path], out: Path) -> dict[str, int]:
    """Write optimum.csv from the runs and additivity.csv from the enumerations; return the number of rows of each."""
    problem = ("model", "units")
    runs = read_runs(paths, (*problem, "rows"))
    found = read_runs(enumerations, (*problem, "additivity", "scored_tokens")) if enumerations else []
    additivity = [
        named(one, problem) | {"tokens": one["scored_tokens"]} | row for one in found for row in one["additivity"]
    ]
    optimum = [named(run, problem) | row for run in runs for row in run["rows"]]
    return write_tables(out, {"optimum": optimum, "additivity": additivity})


def expanded(word: str) -> list[str]:
    """Return what bash makes of a word with braces: ``a/{b,c}/{0,1}.json`` names four files."""
    parts = re.split(r"\{([^{}]*)\}", word)  # text and choices in turn
    choices = [part.split(",") if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def listed(source: str) -> list[Path]:
    """Return the files that ``source`` names, a word with braces on each line: a file, or - for standard input."""
    text = sys.stdin.read() if source == "-" else read_text(source, "list of runs")
    return [Path(name) for line in text.splitlines() if line for name in expanded(line)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Collect the league or the exact optimum into the records.")
    parser.add_argument("what", choices=("league", "optimum"), help="which tables")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="files of ramp.league or ramp.optimum.run")
    parser.add_argument("--runs-from", default=None, help="file with more of them, one a line; - for standard input")
    parser.add_argument("--planned", type=int, default=None, help="runs that the league has in all, made or not")
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="JSON files of ramp.optimum")
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    runs = [*args.runs, *(listed(args.runs_from) if args.runs_from else [])]
    if args.what == "league":
        collect_league(runs, args.out, args.planned)
    else:
        collect_optimum(runs, args.tables, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
