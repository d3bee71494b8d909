"""The README: its result table comes from the published records, its commands are those that CI runs."""

from pathlib import Path
from typing import Any

import pytest

from paper.readme import (
    PARTS,
    SECTIONS,
    marks,
    results_index,
    results_pages,
    search_sentence,
    section_of,
    with_results,
)
from paper.search_over_banks import _is_bank_0, runs_over, standings
from paper.study import Study
from paper.tables.__main__ import all_tables
from paper.tables.model import Table
from paper.tables.quoted import quoted_tables
from paper.words import shown
from ramp.core.errors import RampError
from ramp.records.table import read_table
from tests.synthetic_league import search_records
from tests.synthetic_records import synthetic_study, write_tables

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


OUTCOMES = {
    "lowers the KL": (0.97, 0.96, 0.975, 0.98, 0.965),
    "raises the KL": (1.03, 1.02, 1.04, 1.03, 1.02),
    "has no settled effect": (0.97, 1.03, 1, 1.01, 0.99),
    "keeps its start on every bank": (1, 1, 1, 1, 1),
    "has no settled effect (few banks)": (0.97, 1, 0.98, 1.01),
}


@pytest.fixture(scope="module")
def searched() -> dict[str, Any]:
    """The published tables that the sentence on the search is made of."""
    frames = {name: read_table(PUBLISHED / f"{name}.csv") for name in ("records", "windows", "transfer")}
    return frames | {"windows": frames["windows"][frames["windows"]["method"].isin(["ramp", "knapsack"])]}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_sentence_on_the_search_follows_the_rows_over_banks(
    outcome: str, searched: dict[str, Any], tmp_path: Path
) -> None:
    """The side of the interval decides; it says over what it runs, and README and the page keep their length."""
    tables = search_records(*OUTCOMES[outcome], windows=12)
    write_tables(tmp_path, tables)
    made = Study(searched | {name: read_table(tmp_path / f"{name}.csv") for name in tables})
    [standing] = standings(made)
    sentence = search_sentence(made)
    assert f"knapsack {outcome} at 3.65 bits ({shown(standing.ratio.estimate, 3)} times the knapsack's" in sentence
    assert f"{len(OUTCOMES[outcome])} banks, 1 search seed on each, 12 windows" in sentence
    assert "of another run (36 windows, 3 search seeds)" in sentence
    assert ("**No gain is settled.**" in sentence) == (standing.side == 0)
    assert ("**The search is not recommended.**" in sentence) == (outcome == "raises the KL")
    published = {name: read_table(file) for name in tables if (file := PUBLISHED / f"{name}.csv").is_file()}
    current = search_sentence(Study(searched | published))
    [line] = [line for line in README.splitlines() if line.startswith("- RAMP's search")]
    whole = line.replace("over the same banks", f"over {runs_over(standings(Study(searched | published)))}")
    assert whole == f"- {current}", "run: python -m paper.readme"
    there = sentence.replace(f"over {standing.ratio.runs_over}", "over the same banks", 1)
    assert len(README.replace(line, f"- {there}").split()) <= 1200
    assert sentence in results_index(made, {})


def test_a_study_that_repeated_its_own_rows_says_so(searched: dict[str, Any]) -> None:
    study = Study(searched)
    entry = study.one(study.source, "ramp", 3.65)
    assert entry is not None
    sums = study.sums(entry, study.primary_text, "kl")[0]
    assert _is_bank_0(study, "ramp", 3.65, sums)
    assert not _is_bank_0(study, "ramp", 3.65, 1.01 * sums)
    assert not _is_bank_0(study, "ramp", 3.65, None)


def test_without_rows_over_banks_the_sentence_says_one_bank(searched: dict[str, Any]) -> None:
    """The reading follows the rows: of another sign README says another thing."""
    assert "ended below it at 3.65 bits" in search_sentence(Study(searched))
    assert "one bank, 36 windows, 3 search seeds" in search_sentence(Study(searched))
    worse = searched["windows"].copy()
    worse.loc[worse["method"] == "ramp", "kl"] *= 1.2
    assert "ended above it at 3.65 bits" in search_sentence(Study(searched | {"windows": worse}))


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


def test_readme_without_marks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paper.readme.PARTS", {"outcome": lambda study: "- a sentence"})
    with pytest.raises(RampError, match="marks"):
        with_results("no marks here", synthetic_study())


def test_ci_runs_the_commands_of_the_readme() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("./install && .venv/bin/snakemake --cores all", "./install && .venv/bin/pytest"):
        assert command in README
    assert '\n./install "$venv"\n' in ci
    assert 'snakemake" --cores all --configfile config/smoke.yaml' in ci
    assert '"$venv/bin/pytest"\n' in ci
