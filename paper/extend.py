"""Add runs to a published study: a league grows run by run, over months and machines.

    python -m paper.extend --published results/published --results results/league \\
        [--command "what makes all of it now"] [--note "what a reader must know"]

The results of the first runs need not exist any more. Published rows stay, others are added, and the claims are judged
again. A run of the league names its bank, and tables compare on one bank alone (``paper.league``), so runs on any bank
may be added. The other tables name none: rows of a model that is published already must be of the same bank; if not
they are refused, with nothing written.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper.claims import CLAIMS_FILE, judge_all, read_claims_file
from paper.publish import MANIFEST, Also, listing, missing
from paper.study import Study
from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.files import read_json, require_file, write_json
from ramp.records.schema import RUN_NAMES, TABLES
from ramp.records.table import read_all, read_table, write_claims, write_table

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
"""Largest relative difference of one measurement made twice: the same bank gives the same bits, or nearly."""


@dataclass(frozen=True)
class Growth:
    """The key of a table's runs, and the column that shows their bank."""

    key: tuple[str, ...]  # columns that name a run: all its rows come or stay together
    witness: str | None = None  # column that says whether two records of a model speak of one bank


GROWING = {
    "league": Growth(RUN_NAMES),
    "league_windows": Growth(RUN_NAMES),
    "league_curves": Growth(RUN_NAMES),
    "optimum": Growth(("model", "units", "budget_bits", "allocator", "seed"), "kl_optimum"),
    "additivity": Growth(("model", "units", "bits"), "kl_joint"),
    "folding": Growth(TABLES["folding"].unique, "kl"),
    "folding_windows": Growth(TABLES["folding"].unique, "kl"),
}
"""The tables that have runs."""


def same_bank(name: str, old: pd.DataFrame, new: pd.DataFrame) -> None:
    """Raise ``RampError`` where a model of both has no witness in common, or one that differs."""
    witness = GROWING[name].witness
    if witness is None:
        return
    both = old.merge(new, on=list(TABLES[name].unique), suffixes=("", "_new"))
    for model in sorted(set(old["model"]) & set(new["model"])):
        rows = both[both["model"] == model]
        was, now = (rows[column].astype("float64") for column in (witness, f"{witness}_new"))
        if rows.empty or not ((now - was).abs() <= TOLERANCE * was.abs()).all():
            raise RampError(
                f"{name}: {model} is published from another bank, or nothing shows that it is the same "
                f"({witness} of rows in both): publish that model's rows as a whole, from one machine"
            )


def grown(name: str, old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return the published rows, and those of runs that are not published."""
    import pandas

    added = missing(new, old, GROWING[name].key)
    table = pandas.concat([old, added[list(old.columns)]], ignore_index=True)
    if "planned" in table.columns and len(new):
        table["planned"] = new["planned"].iloc[0]
    return table


def extend(published: Path, results: Path, note: str = "", command: str = "") -> dict[str, int]:
    """Add what ``results`` has to ``published``; the number of rows added to each table.

    Raises:
        RampError: nothing of this study is published yet, or what is there is of another model, bank or text.
    """
    manifest = read_json(require_file(published / MANIFEST, "manifest of what is published"))
    more = Also(results, "", note)
    entry = next((each for each in manifest["also"] if each["study"] == more.study), None)
    if entry is None:
        raise RampError(f"{published} has nothing of the study '{more.study}' yet: python -m paper.publish --also")
    new = {name: rows for name, rows in read_all(results / "records").items() if name in GROWING}
    if not new:
        raise RampError(f"{results / 'records'} has none of {', '.join(GROWING)}: collect the study first")
    tables: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for name in (name for name in GROWING if name in new):
        file = published / TABLES[name].file
        old = read_table(file) if file.is_file() else new[name].iloc[:0]
        same_bank(name, old, new[name])
        tables[name] = grown(name, old, new[name])
        counts[name] = len(tables[name]) - len(old)
    for name, rows in tables.items():
        write_table(published / TABLES[name].file, rows)
    write_claims(published / "claims.json", judge_all(Study.read(published), read_claims_file(CLAIMS_FILE)))
    write_json(published / f"config_{more.study}.json", read_json(results / "config.json"))
    entry["commits"] = sorted({*entry["commits"], *more.about({})["commits"]})
    entry["tables"] = sorted({*entry["tables"], *(TABLES[name].file for name in tables)})
    entry["note"] = note or entry["note"]
    entry["command"] = command or entry["command"]
    names = [path.name for path in sorted(published.iterdir()) if path.suffix in (".csv", ".json")]
    manifest["files"] = listing(published, [name for name in names if name != MANIFEST])
    write_json(published / MANIFEST, manifest)
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Add runs to a published study.")
    parser.add_argument("--published", type=Path, default=Path("results/published"), help="folder that grows")
    parser.add_argument("--results", type=Path, required=True, help="results folder of the study that was continued")
    parser.add_argument("--command", default="", help="replaces the manifest's command of the study")
    parser.add_argument("--note", default="", help="replaces the manifest's note on the study")
    args = parser.parse_args(argv)
    for name, count in extend(args.published, args.results, args.note, args.command).items():
        print(f"{TABLES[name].file}: {count} rows added")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
