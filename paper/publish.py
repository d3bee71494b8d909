"""Publish a finished study's records: copies, with a manifest that says what they are and how they were made.

    python -m paper.publish --results results --out results/published --command "snakemake --cores all"

copies every table of R/records, claims.json and R/config.json, adds the rows of other packages from R/external
(``snakemake baselines_external``) where they are, and writes manifest.json: the command, a note, the commits that the
rows were evaluated at, and the sha256 and size of every file. python -m paper.readme then sets the README's table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ramp import cli
from ramp.errors import RampError
from ramp.files import atomic_path, read_json, sha256_file, write_json
from ramp.records import KEY_NAMES, read_all, read_table, write_table

MANIFEST = "manifest.json"


def publish(results: Path, out: Path, command: str, note: str = "") -> dict[str, Any]:
    """Copy the records of ``results`` to ``out`` and return the manifest; ``RampError`` if a file is missing."""
    records = results / "records"
    tables = sorted(records.glob("*.csv"))
    if not tables:
        raise RampError(f"no records in {records}: finish the study first (snakemake --cores all)")
    rows = read_all(records)["records"]  # checks every table against its schema before anything is copied
    files = [*tables, records / "claims.json", results / "config.json"]
    for file in files:
        if not file.is_file():
            raise RampError(f"no file {file}: finish the study first (snakemake --cores all)")
    for old in [*out.glob("*.csv"), *out.glob("*.json")]:
        old.unlink()
    for file in files:
        with atomic_path(out / file.name) as partial:
            partial.write_bytes(file.read_bytes())
    added = add_external(results / "external", out)
    manifest = {
        "command": command,
        "study": read_json(results / "config.json")["study"],
        "note": note,
        "rows_of_packages_added": added,
        "commits": sorted(rows["commit"].dropna().unique().tolist()),
        "files": {
            file.name: {"sha256": sha256_file(out / file.name), "bytes": (out / file.name).stat().st_size}
            for file in files
        },
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def add_external(folder: Path, out: Path) -> int:
    """Append the rows that ``folder`` has and ``out`` has not to the published tables; how many records they are."""
    import pandas

    if not (folder / "records.csv").is_file():
        return 0
    external = read_all(folder)
    before = {name: read_table(out / f"{name}.csv") for name in external if (out / f"{name}.csv").is_file()}
    new = _missing(external["records"], before["records"])
    for name, table in before.items():
        own = [column for column in KEY_NAMES if column in table.columns]
        if len(own) < len(KEY_NAMES):
            continue  # of models or files, not of rows
        wanted = external[name].merge(new[own], on=own)
        write_table(out / f"{name}.csv", pandas.concat([table, wanted]) if len(wanted) else table)
    return len(new)


def _missing(rows: Any, known: Any) -> Any:
    """The rows of a data frame whose record key is not among the ``known`` ones."""
    joined = rows.merge(known[list(KEY_NAMES)], on=list(KEY_NAMES), how="left", indicator=True)
    return joined[joined["_merge"] == "left_only"].drop(columns="_merge")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Publish a finished study's records.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder of the study")
    parser.add_argument("--out", type=Path, default=Path("results/published"), help="folder to write")
    parser.add_argument("--command", required=True, help="the command that made the study, as anyone would type it")
    parser.add_argument("--note", default="", help="what a reader must know of how the study was made")
    args = parser.parse_args(argv)
    publish(args.results, args.out, args.command, args.note)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
