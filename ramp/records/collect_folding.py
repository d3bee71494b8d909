"""Collect the JSON files of the folds' ablation into folding.csv and folding_windows.csv.

    python -m ramp.records.collect_folding --runs R/fold_ablation/M/awq_w3/gptq-b3.json ... --out R/records

Reads exactly the files named and measures nothing; a row that is not named is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.output_path import OutputFolder
from ramp.records.runs import check_alike, named, read_runs
from ramp.records.schema import FOLD_NAMES
from ramp.records.table import write_tables

KEPT = (
    "fold", "kind", "alpha", "sites", "title", "error_ratio", "bytes_linear", "bpw_linear", "dtype", "wall_s", "commit",
    "hardware",
)  # fmt: skip


def collect(paths: Sequence[Path], out: Path) -> dict[str, int]:
    """Write both tables; return the number of rows of each."""
    runs = read_runs(paths, (*FOLD_NAMES, *KEPT, "text"))
    check_alike(
        runs,
        paths,
        lambda run: (run["text"]["length"], len(run["text"]["windows"]), run["dtype"]),
        "held-out windows or dtype",
    )
    rows, windows = [], []
    for run in runs:
        key, text = named(run, FOLD_NAMES), run["text"]
        interval = {"ci_low": text["kl_low"], "ci_high": text["kl_high"], "n_windows": len(text["windows"])}
        rows.append(key | named(run, KEPT) | named(text, ("ppl", "ppl_low", "ppl_high", "kl", "length")) | interval)
        windows += [key | window for window in text["windows"]]
    return write_tables(out, {"folding": rows, "folding_windows": windows})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Collect the folds' ablation into the records.")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="files of ramp.league.fold_ablation")
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    collect(args.runs, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
