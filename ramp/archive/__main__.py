"""Pack a finished study into one file that checks itself: records, manifests, allocations, paper, code; no weights.

    python -m ramp archive RESULTS --out FILE.zip [--date YYYY-MM-DD] [--root PROJECT]

RESULTS is a results folder, or a folder of records (results/published). ``results/`` of the archive holds what the
study left behind, ``code/`` the files that git tracks, in their present state, and methods of the user's own (without
git: all sources),
``ro-crate-metadata.json`` what they are, as RO-Crate 1.1, and ``SHA256SUMS`` their checksums. One folder gives the same
bytes every time. ``python -m ramp verify FILE.zip`` checks the archive, here or elsewhere.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from ramp.archive.contents import CODE, RESULTS, code_files, study_files
from ramp.core import cli
from ramp.core.atomic_files import sha256_file
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile
from ramp.core.provenance import commit

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.archive.checksums import SUMS, sums_text
    from ramp.archive.container import write_archive
    from ramp.archive.crate import METADATA, About, Described, metadata, read_citation
    from ramp.records.compare_side import Recorded

PROJECT = Path(__file__).resolve().parents[2]


def about_study(folder: Path, root: Path, date: str) -> About:
    """Return what the metadata says of a study; ``date`` is empty for the day on which its records were written."""
    recorded = Recorded.read(folder)
    assert recorded.records is not None  # study_files saw records.csv
    studies = sorted(recorded.studies)
    machines = {recorded.machine(study) for study in studies}
    table = next(path for path in (folder / "records" / "records.csv", folder / "records.csv") if path.is_file())
    written = datetime.datetime.fromtimestamp(table.stat().st_mtime, datetime.UTC).date()
    return About(
        study=", ".join(studies) or folder.resolve().name,
        date=date or written.isoformat(),
        commit=commit(),
        row_commits=tuple(sorted({str(each) for each in recorded.records["commit"] if each})),
        machine="; ".join(sorted(machines - {"unknown"})),
        citation=read_citation(root / "CITATION.cff"),
    )


def archive(folder: Path, out: Path, root: Path = PROJECT, date: str = "") -> str:
    """Write the archive of a results folder; return its id, the sha256 of its list of checksums.

    Raises:
        RampError: no records, a link out of the folder, no project at ``root``.
    """
    code = code_files(root)
    if f"{CODE}/ramp/__init__.py" not in code or f"{CODE}/CITATION.cff" not in code:
        raise RampError(f"{root} is not the project's folder: name it with --root")
    found = study_files(folder)
    members: dict[str, Path | bytes] = {**found, **{name: path for name, path in code.items() if path != out}}
    files = {
        name: Described(sha256_file(path), path.stat().st_size)
        for name, path in members.items()
        if isinstance(path, Path)
    }
    about = metadata(files, about_study(folder, root, date))
    document = (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()
    sums = {name: each.sha256 for name, each in files.items()}
    listed = sums_text(sums | {METADATA: hashlib.sha256(document).hexdigest()}).encode()
    write_archive(out, members | {METADATA: document, SUMS: listed})
    return hashlib.sha256(listed).hexdigest()


def _day(text: str) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise RampError(f"--date {text}: write a day as YYYY-MM-DD") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Pack a finished study into one file that checks itself.")
    parser.add_argument("results", type=Path, help="results folder, or folder of records")
    parser.add_argument("--out", type=OutputFile, required=True, help="file to write, ending in .zip")
    parser.add_argument("--date", default="", help="day of publication; else the day on which the records were written")
    parser.add_argument("--root", type=Path, default=PROJECT, help="folder of the project whose code is packed")
    args = parser.parse_args(argv)
    if args.out.suffix != ".zip":
        raise RampError(f"--out {args.out} should end in .zip: the archive is a ZIP file")
    name = archive(args.results, args.out, args.root, _day(args.date) if args.date else "")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, id {name}")
    print(f"folders: {RESULTS}/ (the study), {CODE}/ (the project); check it with: python -m ramp verify {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
