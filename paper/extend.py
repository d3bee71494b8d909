"""Add runs to a published study, after a check that they were made with the same model, bank and text.

    python -m paper.extend --published results/published --results results/league [--note "what a reader must know"]

A league grows run by run, over months and machines, and what made its first runs need not exist any more. Rows that
are published stay as they are, runs that are not get added, table by table, and the claims are judged anew. What is
added may only be compared with what stands there if both come from one bank and one text, and numbers of an allocator
that needs no search depend on nothing else: where a published model has none of these in the new records, or where one
of them differs, nothing is written. A model that is not published yet is added as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper.claims import CLAIMS_FILE, judge_all, read_claims_file
from paper.publish import MANIFEST, Also
from paper.study import Study
from ramp import cli
from ramp.collect_league import NAMES
from ramp.errors import RampError
from ramp.files import read_json, require_file, sha256_file, write_json
from ramp.records import TABLES, read_all, read_table, write_claims, write_table

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-3
"""Largest relative difference of a witness: processors add up in other orders, another model is further off."""


@dataclass(frozen=True)
class Growth:
    """How one table of the league grows."""

    key: tuple[str, ...]  # columns that name a run: all its rows come or stay together
    witness: str | None = None  # column that says whether two records speak of one bank and one text
    searched: bool = False  # only rows of at most one evaluation can tell: what a search finds may differ


GROWING = {
    "league": Growth(NAMES, "kl_held", searched=True),
    "league_windows": Growth(NAMES),
    "league_curves": Growth(NAMES),
    "optimum": Growth(("model", "units", "budget_bits", "allocator", "seed"), "kl_optimum"),
    "additivity": Growth(("model", "units", "bits"), "kl_joint"),
    "folding": Growth(TABLES["folding"].unique, "kl"),
    "folding_windows": Growth(TABLES["folding"].unique),
}
"""The tables that have runs, in an order in which those with a witness come first."""


def same_world(name: str, old: pd.DataFrame, new: pd.DataFrame) -> None:
    """Raise ``RampError`` where a model of both has no common witness, or one that differs."""
    growth = GROWING[name]
    if growth.witness is None:
        return
    models = set(old["model"]) & set(new["model"])
    if growth.searched:
        old, new = (rows[rows["spent"] <= 1] for rows in (old, new))
    both = old.merge(new, on=list(TABLES[name].unique), suffixes=("", "_new"))
    for model in sorted(models):
        rows = both[both["model"] == model]
        if rows.empty:
            raise RampError(
                f"{name}: no row of {model} without a search is both published and new, so nothing shows that they "
                "are one model on one bank: run one of the published ones here too (the knapsack takes seconds)"
            )
        was, now = (rows[column].astype("float64") for column in (growth.witness, f"{growth.witness}_new"))
        off = float(((now - was).abs() / was.abs()).max())
        if not off <= TOLERANCE:
            raise RampError(
                f"{name}: {growth.witness} of {model} differs from the published one by {100 * off:.3g} %: another "
                "model, bank or text; publish that model's runs as a whole, from here"
            )


def grown(name: str, old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The published rows, and those of runs that are not published."""
    import pandas

    key = list(GROWING[name].key)
    marked = new.merge(old[key].drop_duplicates(), on=key, how="left", indicator=True)
    added = marked[marked["_merge"] == "left_only"].drop(columns="_merge")
    table = pandas.concat([old, added[list(old.columns)]], ignore_index=True)
    if "planned" in table.columns and len(new):
        table["planned"] = new["planned"].iloc[0]
    return table


def extend(published: Path, results: Path, note: str = "") -> dict[str, int]:
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
        same_world(name, old, new[name])
        tables[name] = grown(name, old, new[name])
        counts[name] = len(tables[name]) - len(old)
    for name, rows in tables.items():
        write_table(published / TABLES[name].file, rows)
    write_claims(published / "claims.json", judge_all(Study.read(published), read_claims_file(CLAIMS_FILE)))
    write_json(published / f"config_{more.study}.json", read_json(results / "config.json"))
    entry["commits"] = sorted({*entry["commits"], *more.about({})["commits"]})
    entry["tables"] = sorted({*entry["tables"], *(TABLES[name].file for name in tables)})
    entry["note"] = note or entry["note"]
    names = [path.name for path in sorted(published.iterdir()) if path.suffix in (".csv", ".json")]
    manifest["files"] = {
        name: {"sha256": sha256_file(published / name), "bytes": (published / name).stat().st_size}
        for name in names
        if name != MANIFEST
    }
    write_json(published / MANIFEST, manifest)
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Add runs to a published study.")
    parser.add_argument("--published", type=Path, default=Path("results/published"), help="folder that grows")
    parser.add_argument("--results", type=Path, required=True, help="results folder of the study that was gone on with")
    parser.add_argument("--note", default="", help="replaces what the manifest says of the study")
    args = parser.parse_args(argv)
    for name, count in extend(args.published, args.results, args.note).items():
        print(f"{TABLES[name].file}: {count} rows added")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
