"""Check an archive: every file there, unchanged, and nothing else; on request one row is made again.

    python -m ramp verify FILE.zip [--id ID] [--row MODEL/METHOD[-bBITS-sSEED]] [--results RESULTS] [--extract FOLDER]

The archive is not trusted: nothing goes to the disk, names that lead out of a folder, links,
files of one name and sizes beyond ``--limit-gb`` are refused. ``--id`` is the id that the maker of the archive
published: without it, an archive that was replaced as a whole, checksums included, still holds.

``--row`` recomputes a row's mean KL, perplexity and their intervals from the archived values per window, and the bytes
of its linears; no model runs. With ``--results`` (a folder that has the study's weights) the row is evaluated again
instead. ``--extract`` unpacks an archive that holds to its checksums into a new folder.

Exit status: 0 where everything holds, 1 where a file or a number does not, 2 for bad input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import atomic_path
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.archive.checksums import check
    from ramp.archive.container import Archive, Limits, open_archive
    from ramp.archive.row import evaluated_again, find_row, from_windows, read_tables, short_name


def extract(archive: Archive, folder: Path) -> None:
    """Unpack every file below a new folder; ``RampError`` where the folder exists."""
    if folder.exists():
        raise RampError(f"{folder} exists: give --extract a folder that does not")
    with atomic_path(folder) as partial:
        for name in archive.names:  # checked: relative, no "..", files only
            archive.copy(name, partial / name)


def check_row(archive: Archive, wanted: str, results: Path | None) -> bool:
    """Make one row again and print how; return whether it agrees."""
    tables = read_tables(archive, ("records", "windows", "allocations"))
    if not {"records", "windows"} <= set(tables):
        raise RampError(f"{archive.path} lacks records.csv or windows.csv: no row of it can be made again")
    row = find_row(tables["records"], wanted)
    name = f"{row['model']}/{short_name(row)}"
    if results is None:
        found = from_windows(tables, row)
        print(f"{name}: recomputed from the archived values per window (the model was not run):")
    else:
        found = evaluated_again(archive, row, results)
        print(f"{name}: evaluated again with the weights in {results} (the model was run):")
    for each in found:
        print(each.line())
    return all(each.verdict for each in found)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Check an archive of python -m ramp archive.")
    parser.add_argument("file", type=Path, help="archive")
    parser.add_argument("--id", default="", help="id that the archive must have, from elsewhere than the archive")
    parser.add_argument("--row", help="row to make again: MODEL/METHOD, or MODEL/METHOD-bBITS-sSEED")
    parser.add_argument("--results", type=Path, help="results folder with the weights of --row: evaluate it again")
    parser.add_argument("--extract", type=OutputFolder, help="new folder to unpack into, where the archive holds")
    parser.add_argument("--limit-gb", type=int, default=4, help="most that is unpacked")
    args = parser.parse_args(argv)
    if args.results and not args.row:
        raise RampError("--results needs --row: name the row to evaluate again")
    with open_archive(args.file, Limits(bytes=args.limit_gb * 10**9)) as archive:
        held = check(archive)
        print("\n".join(held.lines()))
        if args.id and args.id != held.id:
            print(f"it is NOT the archive {args.id}: its id is {held.id}")
            return 1
        if not held.holds:
            return 1
        if args.extract:
            extract(archive, args.extract)
            print(f"unpacked into {args.extract}")
        return 0 if not args.row or check_row(archive, args.row, args.results) else 1


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
