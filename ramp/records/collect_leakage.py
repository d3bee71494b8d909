"""Collect what leaks buy, each row beside the study's own, into leakage.csv and leakage_windows.csv.

    python -m ramp.records.collect_leakage --out R/records --rows \\
        disjoint,in_domain,0=R/metrics/M/knapsack-b3.65-s0.json \\
        test,test,0=R/metrics/M.leak-test-test/knapsack-b3.65-s0.json ...

A row is named by the levels of its calibration and search text, and its draw; ``made.leak`` of its metrics must say the
same, and a row without one is the study's own. Reads exactly the files named and measures nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramp.assets.leakage_texts import LEVELS, NO_LEAK, NO_SEARCH, OWN, Leak
from ramp.core import cli
from ramp.core.atomic_files import finite
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.evaluation.bootstrap import mean_kl, paired
    from ramp.records.runs import HELDOUT, Run, check_scored_alike, content_of, heldout_scores, named, read_rows
    from ramp.records.schema import LEAK_NAMES
    from ramp.records.table import RecordsError, write_tables


@dataclass(frozen=True)
class Named:
    """One row by the levels of its texts and its draw."""

    calibration: str
    search: str
    draw: int
    path: Path

    @classmethod
    def parse(cls, text: str) -> Named:
        """Read ``CALIBRATION,SEARCH,DRAW=FILE``; ``ArgumentTypeError`` for anything else."""
        form = f"CALIBRATION,SEARCH,DRAW=FILE of {', '.join(LEVELS)}"
        name, path = cli.named_value(text, form)
        try:
            calibration, search, draw = name.split(",")
            found = cls(calibration, search, int(draw), Path(path))
        except ValueError:
            found = None
        if found is None or found.calibration not in LEVELS or found.search not in (*LEVELS, NO_SEARCH):
            raise argparse.ArgumentTypeError(f"'{text}' is not {form}")
        return found

    def check(self, made: Run) -> None:
        """Raise ``RecordsError`` where a row was made of other text than it is named after."""
        leak = Leak.parse(str(made.get("leak", NO_LEAK)))
        named_so = leak.calibration in (OWN, self.calibration) and leak.search in (OWN, self.search)
        if "leak" not in made:  # the study's own row: nothing of it was scored
            named_so = LEVELS[-1] not in (self.calibration, self.search)
        if not named_so or made.get("draw", 0) != self.draw:
            raise RecordsError(
                f"{self.path} was made of draw {made.get('draw', 0)} and leak {made.get('leak', 'none')}, not of "
                f"{self.calibration}, {self.search} of draw {self.draw}: run its stages again"
            )


def leak_line(row: Named, metrics: Run) -> Run:
    """Return the line of leakage.csv of one row, without what it is compared with."""
    row.check(metrics["made"])
    key, text = metrics["key"], heldout_scores(metrics, row.path)
    return {
        **named(key, ("model", "method", "budget_bits")), "calibration": row.calibration, "search": row.search,
        "bank_seed": row.draw, "row_seed": key["seed"], "own": "leak" not in metrics["made"], "text": HELDOUT,
        **named(text, ("kl", "kl_low", "kl_high", "length")), "n_windows": len(text["windows"]),
        "bytes_linear": metrics["sizes"].get("bytes_linear"),
        **{name: metrics.get(name, "") for name in ("dtype", "commit", "hardware")},
    }  # fmt: skip


def compared(lines: Sequence[Run], windows: Sequence[Any]) -> list[Run]:
    """Return the lines with the ratio of each leak to the study's own row of its draw, paired over windows."""
    bare = [tuple(line[name] for name in LEAK_NAMES if name not in ("calibration", "search")) for line in lines]
    own = {place: sums for place, line, sums in zip(bare, lines, windows, strict=True) if line["own"]}
    found = []
    for place, line, sums in zip(bare, lines, windows, strict=True):
        ratio: Run = {}
        if not line["own"] and place in own and line["kl"] is not None:
            made = paired([sums, own[place]], lambda leak, bar: mean_kl(leak) / mean_kl(bar))
            ratio = {"ratio": finite(made.value), "ratio_low": finite(made.low), "ratio_high": finite(made.high)}
        found.append(line | ratio)
    return found


def collect(rows: Sequence[Named], out: Path) -> dict[str, int]:
    """Write both tables; return the number of rows of each."""
    paths = [row.path for row in rows]
    runs = read_rows(paths)
    lines, windows = [], []
    for row, run in zip(rows, runs, strict=True):
        with content_of(row.path):
            lines.append(leak_line(row, run))
            windows.append(run["texts"][HELDOUT]["windows"])
    check_scored_alike(lines, paths)
    sums = [named(line, LEAK_NAMES) | each for line, found in zip(lines, windows, strict=True) for each in found]
    return write_tables(out, {"leakage": compared(lines, windows), "leakage_windows": sums})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Collect what leaks of text buy into the records.")
    parser.add_argument(
        "--rows", type=Named.parse, nargs="*", default=[], metavar="CALIBRATION,SEARCH,DRAW=FILE",
        help="metrics of every row, with the levels of its texts and its draw",
    )  # fmt: skip
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    collect(args.rows, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
