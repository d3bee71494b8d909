"""The README: its result table comes from the published records, its commands are those that CI runs."""

from pathlib import Path

import pytest

from paper.readme import SECTIONS, TABLES, marks, results_page, section_of, with_results
from paper.study import Study
from paper.tables.__main__ import all_tables
from paper.tables.model import Table
from paper.tables.quoted import quoted_tables
from ramp.core.errors import RampError

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "results" / "published"


def test_result_table_is_the_published_one() -> None:
    if (PUBLISHED / "records.csv").is_file():
        study = Study.read(PUBLISHED, PUBLISHED / "claims.json")
        assert with_results(README, study) == README, "run: python -m paper.readme"
        assert results_page(study) == (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), (
            "python -m paper.readme"
        )
    else:
        for begin, end in map(marks, TABLES):
            between = README.partition(begin)[2].partition(end)[0]
            assert not between.strip(), "the README shows results and results/published/ holds no records"


def test_every_table_has_a_section_and_stands_there_once() -> None:
    study = Study.read(PUBLISHED, PUBLISHED / "claims.json")
    page = results_page(study)
    for table in [*all_tables(study), *quoted_tables()]:
        assert section_of(table) in SECTIONS
        assert page.count(f"**{table.title}**") == bool(table.rows) * (not table.name.startswith("quoted"))
    assert section_of(Table("league_summary", "", ())) == section_of(Table("league", "", ())) == "The league"
    with pytest.raises(RampError, match="table 'weather' has no section"):
        section_of(Table("weather", "", ()))


def test_readme_without_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RampError, match="marks"):
        with_results("no marks here", None)  # type: ignore[arg-type]  # refused before it is read


def test_ci_runs_the_commands_of_the_readme() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install -r requirements.lock", "snakemake --cores all", "pytest"):
        assert command in README
    assert "install --quiet -r requirements.lock" in ci
    assert 'snakemake" --cores all --configfile config/smoke.yaml' in ci
    assert '"$venv/bin/pytest"\n' in ci
