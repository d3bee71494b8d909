"""The README: its result table comes from the published records, its commands are those that CI runs."""

from pathlib import Path

import pytest

from paper.readme import PARTS, SECTIONS, marks, results_index, results_pages, section_of, with_results
from paper.study import Study
from paper.tables.__main__ import all_tables
from paper.tables.model import Table
from paper.tables.quoted import quoted_tables
from ramp.core.errors import RampError

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "results" / "published"


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.read(PUBLISHED, PUBLISHED / "claims.json")


@pytest.fixture(scope="module")
def tables(study: Study) -> list[Table]:
    return all_tables(study)


def test_results_are_the_published_ones(study: Study, tables: list[Table]) -> None:
    assert with_results(README, study) == README, "run: python -m paper.readme"
    pages = results_pages(tables)
    assert results_index(study, pages) == (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), (
        "run: python -m paper.readme"
    )
    written = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "results").glob("*.md")}
    assert written == pages, "run: python -m paper.readme, and delete pages that are no more"


def test_marks_stand_once_and_in_order() -> None:
    places = [README.index(mark) for name in PARTS for mark in marks(name)]
    assert places == sorted(places)
    assert all(README.count(mark) == 1 for name in PARTS for mark in marks(name))


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 130
    assert len(README.split()) <= 1200


def test_every_table_has_a_section_and_stands_there_once(tables: list[Table]) -> None:
    pages = results_pages(tables)
    for table in [*tables, *quoted_tables()]:
        section = section_of(table)
        expected = bool(table.rows) * (not table.name.startswith("quoted"))
        assert "".join(pages.values()).count(f"**{table.title}**") == expected
        assert pages.get(section.file, "").count(f"**{table.title}**") == expected
    assert section_of(Table("league_summary", "", ())).title == section_of(Table("league", "", ())).title == "League"
    assert len({section.file for section in SECTIONS}) == len(SECTIONS)
    with pytest.raises(RampError, match="weather"):
        section_of(Table("weather", "", ()))


def test_readme_without_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RampError, match="marks"):
        with_results("no marks here", None)  # type: ignore[arg-type]  # refused before it is read


def test_ci_runs_the_commands_of_the_readme() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("./install && .venv/bin/snakemake --cores all", "./install && .venv/bin/pytest"):
        assert command in README
    assert '\n./install "$venv"\n' in ci
    assert 'snakemake" --cores all --configfile config/smoke.yaml' in ci
    assert '"$venv/bin/pytest"\n' in ci
