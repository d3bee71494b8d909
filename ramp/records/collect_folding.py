"""The JSON files of the folds' ablation as tables of the records.

    python -m ramp.records.collect_folding --runs R/fold_ablation/M/awq_w3/gptq-b3.json ... --out R/records

writes folding.csv and folding_windows.csv. Reads exactly the files named, measures nothing; a row that is not named is
absent.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.files import read_json
from ramp.records.table import RecordsError, write_table

log = logging.getLogger("ramp.records.collect_folding")

NAMES = ("model", "method", "bits", "group_size", "file")
"""What names a row."""

KEPT = (
    "fold", "kind", "alpha", "sites", "title", "error_ratio", "bytes_linear", "bpw_linear", "dtype", "wall_s", "commit",
    "hardware",
)  # fmt: skip


def collect(paths: Sequence[Path], out: Path) -> dict[str, int]:
    """Write both tables; return the number of rows of each."""
    runs = [read_json(path) for path in paths]
    for run, path in zip(runs, paths, strict=True):
        missing = [name for name in (*NAMES, *KEPT, "text") if name not in run]
        if missing:
            raise RecordsError(
                f"{path} lacks {', '.join(missing)}: it is no file of ramp.league.fold_ablation, run it again"
            )
    same_text(runs, paths)
    rows = []
    for run in runs:
        text = run["text"]
        row = {name: run[name] for name in (*NAMES, *KEPT)}
        row |= {name: text[name] for name in ("ppl", "ppl_low", "ppl_high", "kl", "length")}
        row |= {"ci_low": text["kl_low"], "ci_high": text["kl_high"], "n_windows": len(text["windows"])}
        rows.append(row)
    windows = [{**{name: run[name] for name in NAMES}, **one} for run in runs for one in run["text"]["windows"]]
    write_table(out / "folding.csv", rows)
    write_table(out / "folding_windows.csv", windows)
    return {"folding": len(rows), "folding_windows": len(windows)}


def same_text(runs: Sequence[dict[str, Any]], paths: Sequence[Path]) -> None:
    """Raise ``RecordsError`` unless all rows of a model were scored on as many windows, of one length, in one dtype."""
    first: dict[str, tuple[Any, Path]] = {}
    for run, path in zip(runs, paths, strict=True):
        said = (run["text"]["length"], len(run["text"]["windows"]), run["dtype"])
        known, where = first.setdefault(run["model"], (said, path))
        if known != said:
            raise RecordsError(
                f"{path} and {where} of {run['model']} differ in held-out windows or dtype: run one of them again"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Collect the folds' ablation into the records.")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="files of ramp.league.fold_ablation")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    if not args.runs:
        raise RecordsError("no row to collect: name at least one with --runs (none of the ablation has ended yet?)")
    counts = collect(args.runs, args.out)
    log.info("%s", ", ".join(f"{name} {count}" for name, count in counts.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
