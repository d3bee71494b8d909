"""Publish a finished study's records: copies, with a manifest of their origin.

    python -m paper.publish --results results --out results/published --command "snakemake --cores all"

copies every table of R/records, claims.json and R/config.json, adds the rows of other packages from R/external
(``snakemake baselines_external``) where they are, and writes manifest.json: the command, a note, the commits that the
rows were evaluated at, the machine, and the sha256 and size of every file. python -m paper.readme then sets the
README's table. The digests of the study (R/records/digests.json) take the place of its older ones in digests.json;
those of other studies stay.

    --results results/smoke --digests-only

publishes the digests of a study and nothing else of it: those of the smoke study, which CI compares.

    --also results/league "snakemake --cores all league optimum --configfile config/league.yaml" "its note"

adds the tables of another study that the first has not (the league's, say), its configuration as config_{study}.json,
and an entry in the manifest's ``also``: study, command, note, the commits of its runs, its tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import atomic_path, read_json, require_file, sha256_file, write_json
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.records.schema import KEY_NAMES
    from ramp.records.study_digests import FILE as DIGESTS
    from ramp.records.study_digests import StudyDigests, read_digests, read_study, write_digests
    from ramp.records.table import read_all, read_table, write_table

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Also:
    """Another study whose tables are published beside the first one's."""

    results: Path
    command: str
    note: str

    @cached_property
    def study(self) -> str:
        """Its name."""
        return read_study(self.results)

    def files(self, taken: Sequence[Path]) -> dict[str, Path]:
        """Return published name -> file: its tables that are not among ``taken``, and its configuration."""
        names = {path.name for path in taken}
        tables = {path.name: path for path in sorted((self.results / "records").glob("*.csv"))}
        new = {name: path for name, path in tables.items() if name not in names}
        if not new:
            raise RampError(f"{self.results / 'records'} has no table that the first study lacks: nothing to publish")
        return {**new, f"config_{self.study}.json": self.results / "config.json"}

    def about(self, files: dict[str, Path]) -> dict[str, Any]:
        """Return its entry in the manifest."""
        places = ("league/**/*.json", "optimum/**/*.json", "metrics/*.draw*/*.json", "metrics/*.leak-*/*.json")
        runs = [read_json(path, dict[str, Any]) for place in places for path in self.results.glob(place)]
        return {
            "study": self.study,
            "command": self.command,
            "note": self.note,
            "commits": sorted({run["commit"] for run in runs if "commit" in run}),
            "tables": sorted(name for name in files if name.endswith(".csv")),
        }


OF_OTHERS = {
    "accidents.csv": "python -m tests.faults",
    "audit.csv": "python -m ramp audit --csv results/published/audit.csv",
    "cluster.csv": "make cluster-test",
    "index.html": "python -m paper.page",
    "paper.pdf": "snakemake --cores all paper --config records=published",
    "plan_check.csv": "python -m ramp plan --check --csv results/published/plan_check.csv",
    "plan_paper.csv": "python -m ramp plan --csv results/published/plan_paper.csv",
    "profile.csv": "python -m benchmarks.study_profile",
    "stability.csv": "python -m benchmarks.stability",
}
"""Published files that other commands write, and these commands: no study makes them, and no manifest lists them."""


def publish(results: Path, out: Path, command: str, note: str = "", also: Sequence[Also] = ()) -> dict[str, Any]:
    """Copy the records of ``results`` to ``out``; return the manifest; ``RampError`` if a file is missing."""
    records = results / "records"
    tables = sorted(records.glob("*.csv"))
    if not tables:
        raise RampError(f"no records in {records}: finish the study first (snakemake --cores all)")
    read = read_all(records)  # checks every table against its schema before anything is copied
    files = [*tables, records / "claims.json", results / "config.json"]
    for file in files:
        if not file.is_file():
            raise RampError(f"no file {file}: finish the study first (snakemake --cores all)")
    copies, entries = {file.name: file for file in files}, []
    study = read_study(results)
    digests = known_digests(out) | known_digests(records)
    for other in also:
        read_all(other.results / "records")  # against their schemas, before anything is copied
        new = other.files(list(copies.values()))
        digests |= known_digests(other.results / "records")
        entries.append(other.about(new))
        copies |= new
    external = results / "external"
    if external.is_dir():
        read_all(external)
    old_files = [*out.glob("*.csv"), *out.glob("*.json")]
    if old_files and not (out / MANIFEST).is_file():
        raise RampError(
            f"{out} holds {old_files[0].name} and no {MANIFEST}: give --out a new folder, or a published one"
        )
    for old in old_files:
        if old.name not in OF_OTHERS:
            old.unlink()
    for name, file in copies.items():
        with atomic_path(out / name) as partial:
            partial.write_bytes(file.read_bytes())
    if digests:
        write_digests(out / DIGESTS, digests)
    added = add_external(results / "external", out)
    manifest = {
        "command": command,
        "study": study,
        "machines": machines(digests),
        "note": note,
        "rows_of_packages_added": added,
        "commits": sorted({str(commit) for name in ("records", "banks") for commit in commits_of(read.get(name))}),
        "also": entries,
        "files": listing(out, [*copies, *([DIGESTS] if digests else [])]),
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def publish_digests(results: Path, out: Path) -> list[str]:
    """Publish the digests of ``results`` beside those of other studies; return the studies that were renewed."""
    new = known_digests(results / "records")
    if not new:
        raise RampError(f"no {DIGESTS} in {results / 'records'}: finish the study first (snakemake --cores all)")
    manifest = read_json(require_file(out / MANIFEST, "manifest of what is published"), dict[str, Any])
    digests = known_digests(out) | new
    write_digests(out / DIGESTS, digests)
    manifest["machines"] = machines(digests)
    manifest["files"] |= listing(out, [DIGESTS])
    write_json(out / MANIFEST, manifest)
    return sorted(new)


def machines(digests: Mapping[str, StudyDigests]) -> dict[str, Any]:
    """Return study -> its machine, for the manifest."""
    return {name: entry.model_dump(mode="json")["machine"] for name, entry in digests.items()}


def known_digests(folder: Path) -> dict[str, StudyDigests]:
    """Return the digests that a folder of records holds, by study; none where it holds no file of them."""
    return read_digests(folder / DIGESTS) if (folder / DIGESTS).is_file() else {}


def add_external(folder: Path, out: Path) -> int:
    """Append to the published tables the rows that only ``folder`` has; return how many records they are."""
    import pandas

    if not (folder / "records.csv").is_file():
        return 0
    external = read_all(folder)
    before = {name: read_table(out / f"{name}.csv") for name in external if (out / f"{name}.csv").is_file()}
    new = missing(external["records"], before["records"], KEY_NAMES)
    for name, table in before.items():
        own = [column for column in KEY_NAMES if column in table.columns]
        if len(own) < len(KEY_NAMES):
            continue  # of models or files, not of rows
        wanted = external[name].merge(new[own], on=own)
        write_table(out / f"{name}.csv", pandas.concat([table, wanted]) if len(wanted) else table)
    return len(new)


def missing(rows: Any, known: Any, key: Sequence[str]) -> Any:
    """Return the rows of a data frame whose ``key`` is not among the ``known`` rows."""
    joined = rows.merge(known[list(key)].drop_duplicates(), on=list(key), how="left", indicator=True)
    return joined[joined["_merge"] == "left_only"].drop(columns="_merge")


def commits_of(rows: Any) -> list[str]:
    """Return the commits that a table's rows were evaluated at; none where there is no table."""
    return [] if rows is None else rows["commit"].replace("", None).dropna().unique().tolist()


def listing(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return sha256 and bytes of files by name, for the manifest."""
    return {name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size} for name in names}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Publish a finished study's records.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder of the study")
    parser.add_argument("--out", type=OutputFolder, default="results/published", help="folder to write")
    parser.add_argument("--digests-only", action="store_true", help="publish the digests of the study and nothing else")
    parser.add_argument("--command", help="the command that made the study, as anyone would type it")
    parser.add_argument("--note", default="", help="what a reader must know of how the study was made")
    parser.add_argument(
        "--also", nargs=3, action="append", default=[], metavar=("RESULTS", "COMMAND", "NOTE"),
        help="tables of another study that the first has not, with its own command and note; repeatable",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.digests_only:
        print(f"digests of {', '.join(publish_digests(args.results, args.out))}: {args.out / DIGESTS}")
        return 0
    if not args.command:
        raise RampError("--command is missing: name the command that made the study, as anyone would type it")
    also = [Also(Path(folder), command, note) for folder, command, note in args.also]
    publish(args.results, args.out, args.command, args.note, also)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
