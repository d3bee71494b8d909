"""Set all tables of a study as LaTeX, typst and Markdown.

    python -m paper.tables --records results/records --out results/paper/tables

writes {table}.tex, {table}.typ and {table}.md for every table, and index.json: {name: {"title", "rows"}}. Tables of a
model are named after it (main_smollm2-135m). A table without rows says so in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paper import options
from ramp.core import cli
from ramp.core.atomic_files import atomic_path, write_json
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from paper.claims import CLAIMS_FILE, read_claims_file
    from paper.evidence import shortages
    from paper.study import Study
    from paper.tables.banks import banks_table, league_banks_table
    from paper.tables.benchmarks import benchmarks_table, parity_table
    from paper.tables.choices import choices_table
    from paper.tables.claims import claims_table
    from paper.tables.cost import cost_table
    from paper.tables.equal_quality import equal_quality_table
    from paper.tables.foldings import foldings_ratios_table, foldings_table
    from paper.tables.gguf import gguf_table
    from paper.tables.halo import halo_table
    from paper.tables.league import ablations_table, league_summary_table, league_table
    from paper.tables.leakage import leakage_table
    from paper.tables.ledger import ledger_table
    from paper.tables.main import headline_table, main_table
    from paper.tables.model import Table
    from paper.tables.noise import noise_table
    from paper.tables.optimum import additivity_table, optimum_table
    from paper.tables.paired import controls_table, headline_pairs_table, paired_table
    from paper.tables.quoted import quoted_tables
    from paper.tables.render import write
    from paper.tables.settings import settings_table
    from paper.tables.sizes import sizes_table
    from paper.tables.stability import stability_table
    from paper.tables.tasks import tasks_table
    from paper.tables.transfer import transfer_table
    from paper.tables.tuning import tuning_pairs_table, tuning_table
    from paper.tables.unjudged import unjudged


def all_tables(study: Study, published: Study | None = None) -> list[Table]:
    """Return every table of the study, those of models first, the source before the others.

    Numbers of other papers are of the paper's models: only a study of those has them. The main tables take rows of
    packages that this study did not run from the ``published`` records. A study that is no evidence has no readings.
    """
    missing = shortages(study)
    return [unjudged(table, missing) for table in _tables(study, published)]


def _tables(study: Study, published: Study | None) -> list[Table]:
    of_models = []
    for model in study.models:
        of_models.append(main_table(study, model, published))
        of_models += [make(study, model) for make in (paired_table, tasks_table, ledger_table)]
    of_models.append(controls_table(study, study.source))
    return [
        *of_models,
        claims_table(study, read_claims_file(CLAIMS_FILE)),
        transfer_table(study),
        cost_table(study),
        banks_table(study),
        league_banks_table(study),
        league_summary_table(study),
        league_table(study),
        ablations_table(study),
        equal_quality_table(study),
        optimum_table(study),
        additivity_table(study),
        foldings_table(study),
        halo_table(study),
        gguf_table(study),
        gguf_table(study, tuned=True),
        noise_table(study),
        leakage_table(study),
        stability_table(study),
        tuning_table(study),
        tuning_pairs_table(study),
        parity_table(study),
        benchmarks_table(study),
        settings_table(study),
        sizes_table(),
        *(quoted_tables() if study.is_paper_model(study.source) else []),
        choices_table(),
    ]


def printed_tables(study: Study) -> list[Table]:
    """Return the tables that only the printed page needs: narrower or shorter ones of a table among the others."""
    tables = (foldings_ratios_table(study), headline_table(study, study.source), headline_pairs_table(study))
    missing = shortages(study)
    return [unjudged(table, missing) for table in tables]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = options.parser(
        "Set every table of a study from its records.", "folder to write; an old one is replaced", OutputFolder
    )
    parser.add_argument("--published", type=Path, default=None, help="published records, for rows of other packages")
    args = parser.parse_args(argv)
    study, published = Study.of(args), Study.read(args.published) if args.published else None
    tables = [*all_tables(study, published), *printed_tables(study)]
    with atomic_path(args.out) as folder:
        folder.mkdir()
        for table in tables:
            write(table, folder)
        write_json(
            folder / "index.json", {table.name: {"title": table.title, "rows": len(table.rows)} for table in tables}
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
