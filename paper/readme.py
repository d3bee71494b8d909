"""The README's result table, from the published records: no number there is typed.

    python -m paper.readme --records results/published --readme README.md

replaces what stands between the two marks of README.md with the main table of the study's source model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from paper.study import Study
from paper.tables.main import main_table
from paper.tables.render import to_markdown
from ramp import cli
from ramp.errors import RampError
from ramp.files import write_text

BEGIN = "<!-- results: begin (python -m paper.readme writes this) -->"
END = "<!-- results: end -->"


def with_results(readme: str, study: Study) -> str:
    """``readme`` with the source model's main table between the marks; ``RampError`` where the marks are missing."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise RampError(f"the README has no pair of marks '{BEGIN}' and '{END}': put them where the table belongs")
    return f"{head}{BEGIN}\n\n{to_markdown(main_table(study, study.models[0])).strip()}\n\n{END}{tail}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write the published result table into the README.")
    parser.add_argument("--records", type=Path, default=Path("results/published"), help="folder of the records")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="file to edit in place")
    args = parser.parse_args(argv)
    study = Study.read(args.records, args.records / "claims.json")
    write_text(args.readme, with_results(args.readme.read_text(encoding="utf-8"), study))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
