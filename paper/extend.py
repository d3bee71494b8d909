"""Add runs to a published study: a league grows run by run, over months and machines.

    python -m paper.extend --published results/published --results results/league \\
        [--command "what makes all of it now"] [--note "what a reader must know"] [--replace]

The results of the first runs need not exist any more. Published rows stay, others are added, and the claims are judged
again. A run of the league names its bank, and tables compare on one bank alone (``paper.league``), so runs on any bank
may be added. The other tables name none: rows of a model that is published already must be of the same bank; if not
they are refused, with nothing written.

Rows over banks (``banks.csv``) are of the study that is published first, and are added as others are: to a bank (a
model and a draw) that is published already only where a row of both shows that it is the same. ``--replace`` takes the
banks that ``--results`` has instead of the published ones, each as a whole; rows on other banks that have the
allocation of a replaced bank 0 are then of an older one.

Rows with tuned scales (``tuning.csv``) and rows of the leakage meter (``leakage.csv``) grow as rows over banks do.

Files beside llama.cpp's mixes (``gguf.csv``) come from one bank and one measurement of speed: those of a model are
added together, where none of it is published, or replaced together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.atomic_files import read_json, require_file, write_json
from ramp.core.errors import RampError
from ramp.records.schema import BANK_NAMES, LEAK_NAMES, RUN_NAMES, TABLES, TUNED_NAMES

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import numpy as np

    from paper.claims import CLAIMS_FILE, judge_all, read_claims_file
    from paper.publish import MANIFEST, OF_OTHERS, Also, commits_of, listing, missing
    from paper.study import Study
    from ramp.records.bank_ratios import check_one_depth, compared
    from ramp.records.table import expand, read_all, read_table, write_claims, write_table

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-9
"""Largest relative difference of one measurement made twice: the same bank gives the same bits, or nearly."""


@dataclass(frozen=True)
class Growth:
    """The key of a table's runs, and the column that shows their bank."""

    key: tuple[str, ...]  # columns that name a run: all its rows come or stay together
    witness: str | None = None  # column that says whether two records of one bank speak of the same
    bank: tuple[str, ...] = ("model",)  # columns that name a bank
    replaceable: bool = False  # whether banks are replaced on demand


GROWING = {
    "league": Growth(RUN_NAMES),
    "league_windows": Growth(RUN_NAMES),
    "league_curves": Growth(RUN_NAMES),
    "league_banks": Growth(TABLES["league_banks"].unique),
    "optimum": Growth(("model", "units", "budget_bits", "allocator", "seed"), "kl_optimum"),
    "additivity": Growth(("model", "units", "bits"), "kl_joint"),
    "folding": Growth(TABLES["folding"].unique, "kl"),
    "folding_windows": Growth(TABLES["folding"].unique, "kl"),
    "banks": Growth(BANK_NAMES, "kl", ("model", "bank_seed"), replaceable=True),
    "banks_windows": Growth(BANK_NAMES, "kl", ("model", "bank_seed"), replaceable=True),
    "tuning": Growth(TUNED_NAMES, "kl_before", ("model", "bank_seed"), replaceable=True),
    "tuning_windows": Growth(TUNED_NAMES, "kl", ("model", "bank_seed"), replaceable=True),
    "leakage": Growth(LEAK_NAMES, "kl", ("model", "bank_seed"), replaceable=True),
    "leakage_windows": Growth(LEAK_NAMES, "kl", ("model", "bank_seed"), replaceable=True),
    "entropy": Growth(TABLES["entropy"].unique, "bits_entropy", replaceable=True),
    "noise": Growth(("model",), replaceable=True),
    "gguf": Growth(("model",), replaceable=True),
    "gguf_checks": Growth(("model",), replaceable=True),
}
"""The tables that have runs."""


def same_bank(name: str, old: pd.DataFrame, new: pd.DataFrame) -> None:
    """Raise ``RampError`` where a bank of both has no witness in common, or one that differs."""
    growth = GROWING[name]
    if growth.witness is None:
        return
    both = old.merge(new, on=list(TABLES[name].unique), suffixes=("", "_new"))
    for bank in sorted(banks_of(old, growth) & banks_of(new, growth)):
        rows = both[of_banks(both, growth, {bank})]
        was, now = (rows[column].astype("float64") for column in (growth.witness, f"{growth.witness}_new"))
        was, now = was[was.notna() | now.notna()], now[was.notna() | now.notna()]
        if was.empty or not ((now - was).abs() <= TOLERANCE * was.abs()).all():
            whole = ", or pass --replace" if growth.replaceable else ""
            raise RampError(
                f"{name}: {' '.join(map(str, bank))} is published from another bank, or nothing shows that it is the "
                f"same ({growth.witness} of rows in both): publish its rows as a whole, from one machine{whole}"
            )


def banks_of(rows: pd.DataFrame, growth: Growth) -> set[tuple[Any, ...]]:
    """Return the banks that rows are of."""
    return set(rows[list(growth.bank)].itertuples(index=False, name=None))


def of_banks(rows: pd.DataFrame, growth: Growth, banks: set[tuple[Any, ...]]) -> np.ndarray:
    """Return which rows are of ``banks``: bool [rows]."""
    named = rows[list(growth.bank)].itertuples(index=False, name=None)
    return np.fromiter((each in banks for each in named), dtype=bool, count=len(rows))


def grown(name: str, old: pd.DataFrame, new: pd.DataFrame, replace: bool = False) -> pd.DataFrame:
    """Return the published rows, and those of runs that are not published; with ``replace`` without banks of both."""
    import pandas

    growth = GROWING[name]
    if replace and growth.replaceable:
        old = old[~of_banks(old, growth, banks_of(new, growth))]
    added = missing(new, old, GROWING[name].key)
    columns = [name for name, _ in expand(TABLES[name], list(dict.fromkeys([*old.columns, *new.columns])))]
    table = pandas.concat([old, added[[each for each in columns if each in added]]], ignore_index=True)
    if name == "banks":  # a row may come without the knapsack of its bank, which is published
        table = pandas.DataFrame(compared(table.to_dict("records")), columns=columns)
    if name in ("tuning", "leakage"):
        check_one_depth(table.to_dict("records"), name)
    if "planned" in table.columns and len(new):
        table["planned"] = new["planned"].iloc[0]
    return table


def entry_of(manifest: dict[str, Any], more: Also, tables: Iterable[str]) -> dict[str, Any]:
    """Return the manifest's entry of these tables of a study, a new one where the study has none of them yet.

    A table has one entry, so that a command and a note speak of what they made.
    """
    names = set(tables)
    own = [each for each in manifest["also"] if each["study"] == more.study]
    found = next((each for each in own if names & set(each["tables"])), None)
    if found is None and (own or more.study == manifest["study"]):
        found = more.about({}) | {"command": manifest["command"] if more.study == manifest["study"] else ""}
        manifest["also"].append(found)
    if found is None:
        raise RampError(f"nothing of the study '{more.study}' is published yet: python -m paper.publish --also")
    return found


def config_name(manifest: dict[str, Any], entry: dict[str, Any]) -> str:
    """Return the file of an entry's configuration: of its study, and of its first table where that has several."""
    first = next(each for each in manifest["also"] if each["study"] == entry["study"])
    table = "" if entry is first else f"_{Path(min(entry['tables'])).stem}"
    return f"config_{entry['study']}{table}.json"


def extend(published: Path, results: Path, note: str = "", command: str = "", replace: bool = False) -> dict[str, int]:
    """Add what ``results`` has to ``published``; the change of the number of rows of each table.

    ``replace``: banks of both are those of ``results`` afterwards, where a table can have them replaced.

    Raises:
        RampError: nothing of this study is published yet, or what is there is of another model, bank or text.
    """
    manifest = read_json(require_file(published / MANIFEST, "manifest of what is published"), dict[str, Any])
    more = Also(results, "", note)
    new = {name: rows for name, rows in read_all(results / "records").items() if name in GROWING}
    if not new:
        raise RampError(f"{results / 'records'} has none of {', '.join(GROWING)}: collect the study first")
    entry = entry_of(manifest, more, (TABLES[name].file for name in new))
    tables: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for name in (name for name in GROWING if name in new):
        file = published / TABLES[name].file
        old = read_table(file) if file.is_file() else new[name].iloc[:0]
        if not (replace and GROWING[name].replaceable):
            same_bank(name, old, new[name])
        tables[name] = grown(name, old, new[name], replace)
        counts[name] = len(tables[name]) - len(old)
    unknown = [TABLES[name].file for name in tables if not (published / TABLES[name].file).is_file()]
    if not command and (unknown or not entry["command"]):
        names = ", ".join(unknown or [TABLES[name].file for name in tables])
        raise RampError(f"nothing of this study's {names} is published yet: give the --command that makes it")
    # everything is read before the first table is written: a damaged file leaves the publication as it was
    measured = (commit for name in ("banks", "tuning", "folding") for commit in commits_of(new.get(name)))
    entry["commits"] = sorted({*entry["commits"], *more.about({})["commits"], *map(str, measured)})
    entry["tables"] = sorted({*entry["tables"], *(TABLES[name].file for name in tables)})
    entry["note"] = note or entry["note"]
    entry["command"] = command or entry["command"]
    config = read_json(results / "config.json", dict[str, Any])
    study = Study.read(published)
    study.frames |= tables
    judged = judge_all(study, read_claims_file(CLAIMS_FILE))
    for name, rows in tables.items():
        write_table(published / TABLES[name].file, rows)
    write_claims(published / "claims.json", judged)
    write_json(published / config_name(manifest, entry), config)
    names = [path.name for path in sorted(published.iterdir()) if path.suffix in (".csv", ".json")]
    manifest["files"] = listing(published, [name for name in names if name not in (MANIFEST, *OF_OTHERS)])
    write_json(published / MANIFEST, manifest)
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Add runs to a published study.")
    parser.add_argument("--published", type=Path, default=Path("results/published"), help="folder that grows")
    parser.add_argument("--results", type=Path, required=True, help="results folder of the study that was continued")
    parser.add_argument("--command", default="", help="replaces the manifest's command of the study")
    parser.add_argument("--note", default="", help="replaces the manifest's note on the study")
    parser.add_argument("--replace", action="store_true", help="take banks of banks.csv instead of published ones")
    args = parser.parse_args(argv)
    for name, count in extend(args.published, args.results, args.note, args.command, args.replace).items():
        print(f"{TABLES[name].file}: {count:+} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
