"""The README's result tables and docs/results.md, from the published records: no number there is typed.

    python -m paper.readme --records results/published --readme README.md --results docs/results.md

replaces what stands between a pair of marks of README.md: ``claims`` with the verdicts, ``results`` with the study's
own methods on one grid. docs/results.md is written anew: every table of the records.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from paper.claims import CLAIMS_FILE, read_claims_file
from paper.study import Study
from paper.tables.__main__ import all_tables
from paper.tables.claims import verdicts_table
from paper.tables.main import headline_table
from paper.tables.model import Table
from paper.tables.render import to_markdown
from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.files import write_text

TABLES: dict[str, Callable[[Study], Table]] = {
    "claims": lambda study: verdicts_table(study, read_claims_file(CLAIMS_FILE)),
    "results": lambda study: headline_table(study, study.source),
}
"""Name of a pair of marks -> its table."""

SECTIONS: dict[str, tuple[str, ...]] = {
    "The paper's claims": ("claims",),
    "Rows": ("main_", "paired_", "controls_", "tracks_"),
    "Commonsense tasks": ("tasks_",),
    "Where the bytes are": ("ledger_", "sizes"),
    "Transfer": ("transfer",),
    "What the searches cost": ("cost",),
    "The league": ("league_summary", "league", "ablations", "equal_quality"),
    "The exact optimum": ("optimum", "additivity"),
    "Folds": ("foldings",),
    "Exported files in llama.cpp": ("halo",),
    "Our quantizers beside the field's packages": ("parity", "benchmarks"),
    "Numbers of other papers": ("quoted",),
    "What was chosen where the paper is silent": ("choices",),
}
"""Heading of docs/results.md -> its tables, by the beginning of their names."""

HEAD = """# Results

Every table of the published records ([results/published](../results/published), whose manifest.json says by which
commands and commits they were made). `python -m paper.readme` writes this file; the same tables are set in the paper
(`snakemake --cores all paper --config records=published`).
"""


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


def section_of(table: Table) -> str:
    """The heading that a table stands under: that of the longest beginning of its name."""
    found = [
        (len(start), title) for title, starts in SECTIONS.items() for start in starts if table.name.startswith(start)
    ]
    if not found:
        raise RampError(f"table '{table.name}' has no section in docs/results.md: add it to paper.readme.SECTIONS")
    return max(found)[1]


def results_page(study: Study) -> str:
    """docs/results.md: all tables that have rows, by section."""
    sections: dict[str, list[str]] = {title: [] for title in SECTIONS}
    for table in all_tables(study):
        if table.rows:
            sections[section_of(table)].append(to_markdown(table).strip())
    return (
        "\n\n".join([HEAD.strip(), *(f"## {title}\n\n" + "\n\n".join(t) for title, t in sections.items() if t)]) + "\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write the published result tables into README and docs/results.md.")
    parser.add_argument("--records", type=Path, default=Path("results/published"), help="folder of the records")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="file to edit in place")
    parser.add_argument("--results", type=Path, default=Path("docs/results.md"), help="file to write anew")
    args = parser.parse_args(argv)
    study = Study.read(args.records, args.records / "claims.json")
    write_text(args.readme, with_results(args.readme.read_text(encoding="utf-8"), study))
    write_text(args.results, results_page(study))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
