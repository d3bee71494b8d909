"""Merge rows of other people's runs into one table: each says who ran it, on what machine, and on which bank.

    python -m ramp merge OTHER --who NAME [--into results/merged]

OTHER is an archive (python -m ramp archive; it has to hold to its checksums), a results folder or a folder of records.
A folder that was merged before keeps its names and needs no ``--who``. ``--into`` gets merged.csv and
merged_windows.csv; what it has stays.

A bank is named by the digest of everything up to it: texts, model, calibration, folds, bank. A run without digests has
a bank of its own. Rows of two banks are never compared: on each the rounding and the calibration text are others. Two
rows of one key and one bank, scored on the same windows, should have the same numbers. Where they have not, both are
named, and both stay if they are of two people or machines; else the older one stays.

Exit status: 0 where nothing conflicts, 1 where rows conflict, 2 for bad input.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.atomic_files import sha256_file
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFolder
from ramp.core.stale_temporaries import temporary_folder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.archive.checksums import check
    from ramp.archive.container import ArchiveError, open_archive
    from ramp.archive.contents import RESULTS
    from ramp.records.compare_side import Recorded
    from ramp.records.row_agreement import row_name
    from ramp.records.schema import KEY_NAMES, ORIGIN_NAMES
    from ramp.records.study_digests import FILE as DIGESTS
    from ramp.records.study_digests import StudyDigests
    from ramp.records.table import instances, read_table, write_table

if TYPE_CHECKING:
    import pandas as pd

MERGED, WINDOWS = "merged.csv", "merged_windows.csv"
TOLERANCE = 1e-9
"""Largest relative difference of one number: one bank on two machines gives the same, or nearly."""

UP_TO_THE_BANK = ("texts", "models", "calibration", "folds", "bank")
"""Stages whose files name a bank."""

DIGITS = 16


class MergeError(RampError):
    """A run that cannot be merged."""


@dataclass(frozen=True)
class Runs:
    """Rows of one or several runs, with their origin, and their sums per window."""

    rows: pd.DataFrame
    windows: pd.DataFrame


@dataclass(frozen=True)
class Conflict:
    """Two rows of one key on one bank with other numbers."""

    row: str
    column: str
    sides: tuple[str, str]  # who and machine
    values: tuple[float, float]

    def line(self) -> str:
        """Return one line of the report."""
        pairs = " and ".join(f"{value:.10g} ({side})" for side, value in zip(self.sides, self.values, strict=True))
        return f"  conflict: {self.row}: {self.column} is {pairs}"


def bank_of(digests: StudyDigests | None, model: str, run: str) -> str:
    """Return the digest that names a model's bank, of all files up to it; ``run`` where digests do not reach it."""
    stages = {stage.stage: stage.files for stage in digests.stages} if digests else {}
    files = {
        name: digest
        for stage in UP_TO_THE_BANK
        for name, digest in stages.get(stage, {}).items()
        if stage == "texts" or (name.split("/")[1].split(".safetensors")[0] == model and _names_a_bank(name))
    }
    if not any(name.startswith("bank/") for name in files):
        return run
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()[:DIGITS]


def _names_a_bank(name: str) -> bool:
    """Return whether a file is the same in every run on a bank.

    Not the weights, which ``keep: results`` deletes, and no fold of one width, which only some studies need.
    """
    return not name.endswith("/bank.safetensors") and not re.search(r"_w[0-9]+\.", name)


def read_runs(folder: Path, who: str) -> Runs:
    """Return the rows of a results folder, of a folder of records or of one that was merged before.

    Raises:
        MergeError: no name for a run, or one for rows that have their own.
        RampError: no records, or a damaged table.
    """
    if (folder / MERGED).is_file():
        if who:
            raise MergeError(f"the rows in {folder} have names already: leave --who out")
        return Runs(read_table(folder / MERGED), read_table(folder / WINDOWS))
    if not who:
        raise MergeError(f"--who is missing: give the name of the person or group that ran {folder}")
    found = Recorded.read(folder)
    if found.records is None:
        raise MergeError(f"{folder} has digests but no records.csv: finish the study first")
    place = folder / "records" if (folder / "records").is_dir() else folder
    run = f"run-{sha256_file(place / 'records.csv')[:DIGITS]}"
    origins = [_origin(row, found.digests.get(str(row["study"])), who, run) for row in found.records.to_dict("records")]
    import pandas

    rows = pandas.concat([pandas.DataFrame(origins, columns=list(ORIGIN_NAMES)), found.records], axis=1)
    windows = read_table(place / "windows.csv").merge(rows[[*ORIGIN_NAMES, *KEY_NAMES]], on=list(KEY_NAMES))
    return Runs(rows, windows)


def _origin(row: Mapping[Any, Any], digests: StudyDigests | None, who: str, run: str) -> dict[str, str]:
    """Return the origin of one row."""
    machine = digests.machine if digests else None
    return {
        "who": who,
        "machine": machine.processor if machine else str(row["hardware"]) or "unknown",
        "instruction_set": machine.instruction_set if machine else "",
        "bank": bank_of(digests, str(row["model"]), run),
    }


@contextmanager
def opened(other: Path) -> Iterator[Path]:
    """Yield a folder of records: ``other`` itself, or what an archive that holds to its checksums has of them."""
    if other.is_dir():
        yield other
        return
    inside = f"{RESULTS}/records"
    with open_archive(other) as archive, temporary_folder("ramp-merge", f"{other}: {inside}") as made:
        if not check(archive).holds:
            raise ArchiveError(f"{other} does not hold to its checksums: python -m ramp verify {other} says where")
        for name in ("records.csv", "windows.csv", DIGESTS):
            if f"{inside}/{name}" in archive.names:
                archive.copy(f"{inside}/{name}", made / name)
        yield made


def measures(row: Mapping[Any, Any], texts: Sequence[str]) -> list[str]:
    """Return the columns that both sides of a pair have, on texts of which both were scored on the same windows."""
    alike = [
        text
        for text in texts
        if all(row.get(f"{name}_{text}") == row.get(f"{name}_{text}_new") for name in ("n_windows", "length"))
    ]
    columns = [f"{kind}_{text}" for text in alike for kind in ("kl", "ppl")]
    return [name for name in columns if all(row.get(each) == row.get(each) for each in (name, f"{name}_new"))]


def conflicts(old: pd.DataFrame, new: pd.DataFrame) -> list[Conflict]:
    """Return where rows of one key on one bank differ; rows of two banks are not compared."""
    texts = sorted(set(instances(old.columns, "text")) & set(instances(new.columns, "text")))
    both = old.merge(new, on=["bank", *KEY_NAMES], suffixes=("", "_new"))
    found = []
    for row in both.to_dict("records"):
        sides = (f"{row['who']}, {row['machine']}", f"{row['who_new']}, {row['machine_new']}")
        for column in measures(row, texts):
            was, now = float(row[column]), float(row[f"{column}_new"])
            if not abs(now - was) <= TOLERANCE * abs(was):
                found.append(Conflict(row_name(row), column, sides, (was, now)))
    return found


def added(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return the old rows, and those of the new that the old have not: of another origin, key, text or window."""
    import pandas

    names = [*ORIGIN_NAMES, *KEY_NAMES, *(name for name in ("text", "window") if name in new.columns)]
    names.remove("instruction_set")  # says more of the machine, names no row
    return pandas.concat([old, new], ignore_index=True).drop_duplicates(names, keep="first")


def merge(other: Path, into: Path, who: str = "") -> tuple[Runs, list[Conflict]]:
    """Add the rows of ``other`` to ``into``; return everything that is there now, and the conflicts.

    Raises:
        RampError: ``other`` has no records, its archive does not hold, no name.
    """
    with opened(other) as folder:
        new = read_runs(folder, who)
    if (into / MERGED).is_file():
        old = Runs(read_table(into / MERGED), read_table(into / WINDOWS))
        found = conflicts(old.rows, new.rows)
        new = Runs(added(old.rows, new.rows), added(old.windows, new.windows))
    elif (into / WINDOWS).is_file():
        raise RampError(f"{into} holds {WINDOWS} and no {MERGED}: put that file back, or give --into a new folder")
    else:
        found = []
    write_table(into / WINDOWS, new.windows)
    write_table(into / MERGED, new.rows)
    return new, found


def summary(rows: pd.DataFrame) -> list[str]:
    """Return one line per model and bank: how many rows, by whom."""
    return [
        f"  {model}, bank {bank}: {len(part)} rows by {', '.join(sorted(set(part['who'])))}"
        for (model, bank), part in rows.groupby(["model", "bank"], sort=True)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Merge rows of other people's runs into one table.")
    parser.add_argument("other", type=Path, help="archive, results folder, folder of records, or a merged folder")
    parser.add_argument("--who", default="", help="name of the person or group that ran it; in every row")
    parser.add_argument("--into", type=OutputFolder, default="results/merged", help="folder that grows")
    args = parser.parse_args(argv)
    runs, found = merge(args.other, args.into, args.who.strip())
    print(f"{args.into / MERGED}: {len(runs.rows)} rows; rows of two banks are not compared")
    print("\n".join([*summary(runs.rows), *(conflict.line() for conflict in found)]))
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
