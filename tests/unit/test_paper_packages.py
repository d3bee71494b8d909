"""Rows of other packages in tables, figures and claims: measured, not run, and published but not run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from paper import intervals
from paper.claims import CLAIMS_FILE, judge_all, read_claims_file
from paper.figures.pareto import pareto
from paper.publish import publish
from paper.study import Study
from paper.tables.__main__ import all_tables, main
from paper.tables.main import main_table
from paper.tables.model import Table
from paper.tables.render import to_latex, to_markdown
from paper.values import document
from ramp.records.table import read_table
from tests.sealed import read_json
from tests.synthetic_records import SOURCE, synthetic_study, write_records, write_study


@pytest.fixture(scope="module")
def studies() -> tuple[Study, Study]:
    """Records without and with the rows of packages."""
    return synthetic_study(), synthetic_study(packages=True)


def lines(study: Study, published: Study | None = None) -> dict[tuple, dict]:
    table = main_table(study, SOURCE, published)
    return {(row.cells["method"], row.cells["budget"]): dict(row.cells) for row in table.rows}


def test_a_row_that_could_not_run_has_a_dagger_a_reason_and_no_numbers(studies: tuple[Study, Study]) -> None:
    cells = lines(studies[1])["AWQ (gptqmodel) ‡", "4"]
    numbers = {key for key, value in cells.items() if value is not None and key not in ("method", "stage", "budget")}
    assert numbers == {"seeds"}
    table = main_table(studies[1], SOURCE)
    assert "AWQ (gptqmodel) ‡: RuntimeError: no kernel for this processor." in table.footnotes
    assert any(note.startswith("‡ could not run") for note in table.footnotes)
    assert "no kernel" in to_markdown(table)
    assert r"\ddag{}" in to_latex(table)


def test_a_row_that_ran_stands_among_the_uniform_ones_without_a_dagger(studies: tuple[Study, Study]) -> None:
    table = main_table(studies[1], SOURCE)
    [row] = [row for row in table.rows if row.cells["method"] == "GPTQ (gptqmodel)"]
    assert row.group == "uniform 4.0"
    assert row.cells["ppl_heldout"] is not None
    assert ("GPTQ (gptqmodel)", "4") in lines(studies[1])


def test_published_rows_are_marked_and_only_fill_gaps(studies: tuple[Study, Study]) -> None:
    plain, packages = studies
    shown = lines(plain, packages)
    mine = lines(packages)["GPTQ (gptqmodel)", "4"]
    published = shown["GPTQ (gptqmodel) §", "4"]
    assert published | {"method": ""} == mine | {"method": ""}
    assert ("AWQ (gptqmodel) ‡§", "4") in shown
    assert {key: value for key, value in shown.items() if "§" not in key[0]} == lines(plain)
    [note] = [note for note in main_table(plain, SOURCE, packages).footnotes if note.startswith("§")]
    assert "not run here" in note
    assert "12 windows of 512 tokens" in note
    assert lines(packages, packages) == lines(packages)  # what was run here needs no published row


def all_of(study: Study) -> tuple[dict[str, Table], list[dict], dict[str, str]]:
    """Tables by name, verdicts, and the numbers of the text."""
    claims = judge_all(study, read_claims_file(CLAIMS_FILE))
    return {table.name: table for table in all_tables(study)}, claims, document(study)["values"]


def test_rows_that_did_not_or_did_run_elsewhere_move_nothing_else(
    studies: tuple[Study, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims, comparisons and numbers are those of the study without packages and skipped methods."""
    monkeypatch.setattr(intervals, "DRAWS", 40)  # the intervals themselves are tested elsewhere
    plain, packages, skipped = studies[0], studies[1], synthetic_study(skipped=True)
    main = main_table(skipped, SOURCE)
    groups = {row.cells["method"]: row.group for row in main.rows}
    assert (groups["gpu_only ‡"], groups["lacks ‡"]) == ("uniform 4.0", "mixed 3.65")
    assert "gpu_only ‡; lacks ‡: it needs a GPU." in main.footnotes
    tables, claims, numbers = all_of(plain)
    for other in (packages, skipped):
        theirs, verdicts, text = all_of(other)
        assert verdicts == claims
        for name in (f"paired_{SOURCE}", "transfer", "cost", "halo"):
            assert theirs[name] == tables[name], name
        assert len(theirs[f"ledger_{SOURCE}"].rows) == len(tables[f"ledger_{SOURCE}"].rows) + (other is packages)
        assert {key for key in numbers if numbers[key] != text.get(key)} == {"rows"}
        new = [key for key in text if key not in numbers]
        assert all(name in key for key in new for name in ["gptqmodel"] * (other is packages))
        assert labels(other) == labels(plain)


def labels(study: Study) -> list[str]:
    return [text.get_text() for axis in pareto(study).axes for text in axis.texts]


def test_the_command_takes_published_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "DRAWS", 40)
    plain, packages = write_records(tmp_path / "plain"), write_records(tmp_path / "with", packages=True)
    assert main([f"--records={plain}", f"--published={packages}", f"--out={tmp_path / 'tables'}"]) == 0
    assert "GPTQ (gptqmodel) §" in (tmp_path / "tables" / f"main_{SOURCE}.md").read_text()


def test_publishing_adds_the_rows_of_packages_once(tmp_path: Path) -> None:
    results = write_study(tmp_path / "results")
    write_records(results / "external", packages=True)
    for _ in range(2):
        manifest = publish(results, tmp_path / "out", "snakemake")
        assert manifest["rows_of_packages_added"] == 2
    before = read_table(results / "records" / "records.csv")
    after = read_table(tmp_path / "out" / "records.csv")
    assert len(after) == len(before) + 2
    assert len(read_table(tmp_path / "out" / "windows.csv")) > len(read_table(results / "records" / "windows.csv"))
    assert set(read_json(tmp_path / "out" / "manifest.json")["files"]) >= {"records.csv", "windows.csv"}
