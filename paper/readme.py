"""The README's result tables, from the published records: no number there is typed.

    python -m paper.readme --records results/published --readme README.md

replaces what stands between a pair of marks of README.md: ``results`` with the main table of the study's source model,
``league`` with the league's summary, or nothing where the records have no league.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from paper.study import Study
from paper.tables.league import league_summary_table
from paper.tables.main import main_table
from paper.tables.model import Table
from paper.tables.render import to_markdown
from ramp import cli
from ramp.errors import RampError
from ramp.files import write_text

TABLES: dict[str, Callable[[Study], Table]] = {
    "results": lambda study: main_table(study, study.models[0]),
    "league": league_summary_table,
}
"""Name of a pair of marks -> its table."""


def marks(name: str) -> tuple[str, str]:
    """The comments before and behind a table."""
    return f"<!-- {name}: begin (python -m paper.readme writes this) -->", f"<!-- {name}: end -->"


def with_results(readme: str, study: Study) -> str:
    """``readme`` with every table between its marks; ``RampError`` where marks are missing."""
    for name, make in TABLES.items():
        first, last = marks(name)
        head, begin, rest = readme.partition(first)
        _, end, tail = rest.partition(last)
        if not (begin and end):
            raise RampError(f"the README has no pair of marks '{first}' and '{last}': put them where the table belongs")
        table = make(study)
        text = f"{to_markdown(table).strip()}\n\n" if table.rows else ""
        readme = f"{head}{first}\n\n{text}{last}{tail}"
    return readme


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write the published result tables into the README.")
    parser.add_argument("--records", type=Path, default=Path("results/published"), help="folder of the records")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="file to edit in place")
    args = parser.parse_args(argv)
    study = Study.read(args.records, args.records / "claims.json")
    write_text(args.readme, with_results(args.readme.read_text(encoding="utf-8"), study))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
