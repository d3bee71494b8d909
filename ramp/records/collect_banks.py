"""Collect final rows over banks into banks.csv and banks_windows.csv.

    python -m ramp.records.collect_banks --rows ramp,2,2=R/metrics/M.draw2/ramp-b3.65-s0.json \\
        knapsack,2,0=R/metrics/M.draw2/knapsack-b3.65-s0-draw0.json ... --out R/records

A row is named by its method, its bank and the bank on which its widths were searched; the rest is in its metrics file.
Reads exactly the files named and measures nothing; a row that is not named is absent.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ramp.core import cli
from ramp.core.output_path import OutputFolder
from ramp.records.bank_ratios import compared
from ramp.records.runs import HELDOUT, Run, check_scored_alike, heldout_scores, named, read_rows, refuse_leak
from ramp.records.schema import BANK_NAMES
from ramp.records.table import RecordsError, write_tables

NAMED, TITLED = "METHOD,BANK,ALLOCATION_BANK=FILE", "METHOD=TITLE"


@dataclass(frozen=True)
class Named:
    """One row by name."""

    method: str
    bank: int
    allocation_bank: int
    path: Path

    @classmethod
    def parse(cls, text: str) -> Named:
        """Read ``METHOD,BANK,ALLOCATION_BANK=FILE``; ``ArgumentTypeError`` for anything else."""
        name, path = cli.named_value(text, NAMED)
        try:
            method, bank, allocation_bank = name.split(",")
            return cls(method, int(bank), int(allocation_bank), Path(path))
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not {NAMED}") from None


def bank_row(row: Named, metrics: Run, titles: Mapping[str, str]) -> Run:
    """Return the line of banks.csv of one row, without what it is compared with."""
    refuse_leak(metrics["made"], row.path)
    key, text = metrics["key"], heldout_scores(metrics, row.path)
    if metrics["made"].get("draw", 0) != row.bank:
        raise RecordsError(
            f"{row.path} was calibrated on draw {metrics['made'].get('draw', 0)} and is named as of bank {row.bank}: "
            "run its stages again"
        )
    return {
        "model": key["model"], "method": row.method, "budget_bits": key["budget_bits"], "bank_seed": row.bank,
        "allocation_bank": row.allocation_bank, "search_seed": key["seed"], "title": titles.get(row.method, ""),
        **named(text, ("kl", "kl_low", "kl_high", "length")), "n_windows": len(text["windows"]),
        "bytes_linear": metrics["sizes"].get("bytes_linear"),
        **{name: metrics.get(name, "") for name in ("dtype", "commit", "hardware", "arithmetic")},
    }  # fmt: skip


def collect(rows: Sequence[Named], out: Path, titles: Mapping[str, str] | None = None) -> dict[str, int]:
    """Write both tables; return the number of rows of each. ``titles``: of variants, by method."""
    paths = [row.path for row in rows]
    runs = read_rows(paths)
    lines = [bank_row(row, run, titles or {}) for row, run in zip(rows, runs, strict=True)]
    check_scored_alike(lines, paths)
    windows = [
        named(line, BANK_NAMES) | window
        for line, run in zip(lines, runs, strict=True)
        for window in run["texts"][HELDOUT]["windows"]
    ]
    return write_tables(out, {"banks": compared(lines), "banks_windows": windows})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Collect final rows over banks into the records.")
    parser.add_argument(
        "--rows", type=Named.parse, nargs="*", default=[], metavar=NAMED,
        help="metrics of every row, with its method and its banks",
    )  # fmt: skip
    parser.add_argument(
        "--titles", type=partial(cli.named_value, form=TITLED), nargs="*", default=[], metavar=TITLED,
        help="what tables call variants",
    )  # fmt: skip
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    collect(args.rows, args.out, dict(args.titles))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
