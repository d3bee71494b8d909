"""Collect rows with tuned scales, each beside the row that it comes from, into tuning.csv and tuning_windows.csv.

    python -m ramp.records.collect_tuning --out R/records --rows \\
        R/quantized/M/rtn-b4-s0-tuned/meta.json,R/metrics/M/rtn-b4-s0.json,R/metrics/M/rtn-b4-s0-tuned.json ...

A row is named by its tuned ``meta.json`` and the metrics before and after tuning. Reads exactly the files named and
measures nothing; the ratio of both KLs is paired over held-out windows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import finite
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.evaluation.bootstrap import mean_kl, paired
    from ramp.records.runs import (
        Run,
        check_alike,
        check_scored_alike,
        heldout_scores,
        named,
        read_rows,
        read_runs,
        refuse_leak,
    )
    from ramp.records.table import RecordsError, write_tables


@dataclass(frozen=True)
class Named:
    """The three files of one row."""

    meta: Path
    before: Path
    after: Path

    @classmethod
    def parse(cls, text: str) -> Named:
        """Read ``META,BEFORE,AFTER``; ``ArgumentTypeError`` for anything else."""
        parts = text.split(",")
        if len(parts) != 3:
            raise argparse.ArgumentTypeError(f"'{text}' is not META,BEFORE,AFTER")
        return cls(*map(Path, parts))


def tuned_lines(row: Named) -> tuple[Run, list[Run]]:
    """Return the line of tuning.csv of one row, and those of tuning_windows.csv."""
    [meta] = read_runs([row.meta], ("tuned", "wall_s"))
    before, after = read_rows([row.before, row.after])
    refuse_leak(before["made"], row.before)
    refuse_leak(after["made"], row.after)
    about, key = meta["tuned"], after["key"]
    if {**before["key"], "stage": ""} != {**key, "stage": ""} or key["stage"] != "tuned":
        raise RecordsError(f"{row.before} and {row.after} are not one row before and after tuning: score both again")
    scores = heldout_scores(before, row.before), heldout_scores(after, row.after)
    pair = [text["windows"] for text in scores]
    kl_before, kl_after = (paired([windows], mean_kl).value for windows in pair)
    ratio = paired([pair[1], pair[0]], lambda ours, theirs: mean_kl(ours) / mean_kl(theirs))
    name = {
        **named(key, ("model", "method", "budget_bits", "grid")),
        "bank_seed": after["made"].get("draw", 0), "row_seed": key["seed"], "seed": about["seed"],
    }  # fmt: skip
    line = {
        **name, "mixed": before["search"] is not None, **named(about, ("steps", "rate", "tokens")),
        "wall_s": meta["wall_s"], "kl_before": finite(kl_before), "kl_after": finite(kl_after),
        "ratio": finite(ratio.value), "ratio_low": finite(ratio.low), "ratio_high": finite(ratio.high),
        "n_windows": len(pair[0]), "length": scores[1]["length"],
        "bytes_linear": after["sizes"]["bytes_linear"],
        **{column: after.get(column, "") for column in ("dtype", "commit", "hardware")},
    }  # fmt: skip
    return line, [name | {"tuned": bool(i)} | window for i in (0, 1) for window in pair[i]]


def collect(rows: Sequence[Named], out: Path) -> dict[str, int]:
    """Write both tables; return the number of rows of each."""
    found = [tuned_lines(row) for row in rows]
    lines = [line for line, _ in found]
    schedule = ("seed", "steps", "rate", "tokens")
    paths = [row.meta for row in rows]
    check_alike(lines, paths, lambda line: named(line, schedule), "the schedule of tuning")
    check_scored_alike(lines, paths)
    return write_tables(
        out, {"tuning": lines, "tuning_windows": [window for _, windows in found for window in windows]}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Collect rows with tuned scales into the records.")
    parser.add_argument(
        "--rows", type=Named.parse, nargs="*", default=[], metavar="META,BEFORE,AFTER",
        help="the tuned row's meta.json, and the metrics before and after",
    )  # fmt: skip
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    collect(args.rows, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
