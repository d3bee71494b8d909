"""Typeset the paper: numbers from the records, tables and figures from their folders, nothing else.

    python -m paper.build --records results/records --tables results/paper/tables --figures results/paper/figures \\
        --out results/paper/paper.pdf

writes paper.pdf, and values.json (the numbers of the text) beside it. The same inputs give the same bytes: no date,
typst's own fonts, no network. A number that the text names and the records lack fails the build with its key.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from paper import options
from ramp.core import cli
from ramp.core.atomic_files import atomic_path, require_file, write_json
from ramp.core.errors import RampError

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from paper.figures import FIGURES
    from paper.study import Study
    from paper.values import document

SOURCE = Path(__file__).with_name("paper.typ")
BIBLIOGRAPHY = Path(__file__).with_name("refs.bib")


class PaperError(RampError):
    """The paper cannot be typeset from the given files."""


def stage(folder: Path, study: Study, tables: Path, figures: Path, source: Path = SOURCE) -> Path:
    """Lay out under ``folder`` the files that typst reads; return the main file.

    Raises:
        RampError: a table's index or a figure is missing.
    """
    require_file(tables / "index.json", "index of the tables")
    shutil.copytree(tables, folder / "tables")
    (folder / "figures").mkdir()
    for name in FIGURES:
        shutil.copy(require_file(figures / f"{name}.pdf", f"figure {name}"), folder / "figures")
    shutil.copy(source, folder / "paper.typ")
    shutil.copy(BIBLIOGRAPHY, folder / "refs.bib")
    write_json(folder / "values.json", document(study))
    return folder / "paper.typ"


def typeset(main_file: Path, out: Path) -> None:
    """Compile ``main_file`` to the PDF ``out``.

    Raises:
        PaperError: typst's message in one sentence; for a missing number, its key.
    """
    import typst

    try:
        pdf = typst.compile(str(main_file), root=str(main_file.parent), ignore_system_fonts=True, format="pdf")
    except typst.TypstError as error:
        message = " ".join(str(error).split())
        if key := re.search(r"no value '([^']+)'", message):
            raise PaperError(
                f"the text names the number '{key.group(1)}', which the records do not give: run the stage that "
                "measures it, or let the text ask has() first"
            ) from None
        raise PaperError(f"typst could not set {main_file.name}: {message}") from None
    with atomic_path(out) as partial:
        partial.write_bytes(pdf)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = options.parser("Typeset the paper from records, tables and figures.", "paper.pdf to write")
    parser.add_argument("--tables", type=Path, required=True, help="folder that paper.tables wrote")
    parser.add_argument("--figures", type=Path, required=True, help="folder that paper.figures wrote")
    args = parser.parse_args(argv)
    study = Study.of(args)
    with tempfile.TemporaryDirectory() as folder:
        typeset(stage(Path(folder), study, args.tables, args.figures), args.out)
        with atomic_path(args.out.with_name("values.json")) as partial:
            shutil.copy(Path(folder) / "values.json", partial)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
