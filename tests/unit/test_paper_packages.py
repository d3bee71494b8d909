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
from paper.tables.render import to_latex, to_markdown
from paper.values import document
from ramp.core.files import read_json, write_json
from ramp.records.table import read_table
from tests.synthetic_records import SOURCE, write_records


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Records without and with the rows of packages."""
    root = tmp_path_factory.mktemp("packages")
    return write_records(root / "plain"), write_records(root / "with", packages=True)


@pytest.fixture(scope="module")
def studies(folders: tuple[Path, Path]) -> tuple[Study, Study]:
    return Study.read(folders[0]), Study.read(folders[1])


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
    [said] = [note for note in main_table(plain, SOURCE, packages).footnotes if note.startswith("§")]
    assert "not run here" in said
    assert "8 windows of 256 tokens" in said
    assert lines(packages, packages) == lines(packages)  # what was run here needs no published row


def test_methods_that_were_skipped_keep_their_rows_and_move_nothing(
    studies: tuple[Study, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quantizer and an allocator with a reason not to run: a dagger and the reason in the table, nothing else."""
    monkeypatch.setattr(intervals, "DRAWS", 40)  # the intervals themselves are looked at elsewhere
    plain, skipped = studies[0], Study.read(write_records(tmp_path, skipped=True))
    table = main_table(skipped, SOURCE)
    groups = {row.cells["method"]: row.group for row in table.rows}
    assert (groups["gpu_only ‡"], groups["lacks ‡"]) == ("uniform 4.0", "mixed 3.65")
    assert "gpu_only ‡; lacks ‡: it needs a GPU." in table.footnotes
    claims = read_claims_file(CLAIMS_FILE)
    assert judge_all(skipped, claims) == judge_all(plain, claims)
    tables = [{table.name: table for table in all_tables(study)} for study in (plain, skipped)]
    for name in (f"paired_{SOURCE}", "transfer", "cost", f"ledger_{SOURCE}"):
        assert tables[0][name] == tables[1][name], name
    legends = [[text.get_text() for text in pareto(study).legends[0].get_texts()] for study in (plain, skipped)]
    assert legends[0] == legends[1]
    assert document(skipped)["values"]["rows"] != document(plain)["values"]["rows"]


def test_everything_else_goes_on_and_no_verdict_moves(
    studies: tuple[Study, Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims, paired comparisons, figures and the text's numbers are those of the study without packages."""
    monkeypatch.setattr(intervals, "DRAWS", 40)  # the intervals themselves are looked at elsewhere
    plain, packages = studies
    claims = read_claims_file(CLAIMS_FILE)
    assert judge_all(packages, claims) == judge_all(plain, claims)
    tables = [{table.name: table for table in all_tables(study)} for study in (plain, packages)]
    for name in (f"paired_{SOURCE}", "transfer", "cost", "halo"):
        assert tables[0][name] == tables[1][name], name
    assert len(tables[1][f"ledger_{SOURCE}"].rows) == len(tables[0][f"ledger_{SOURCE}"].rows) + 1
    mine, theirs = (document(study)["values"] for study in studies)
    assert {key for key in mine if mine[key] != theirs.get(key)} <= {"rows"}
    assert all("gptqmodel" in key for key in theirs if key not in mine)


def test_the_figure_leaves_packages_to_the_table(studies: tuple[Study, Study]) -> None:
    plain, packages = ([text.get_text() for text in pareto(s).legends[0].get_texts()] for s in studies)
    assert "GPTQ" in packages
    assert packages == plain


def test_the_command_takes_published_records(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plain, packages = map(str, folders)
    assert main(["--records", plain, "--published", packages, "--out", str(tmp_path / "tables")]) == 0
    assert "GPTQ (gptqmodel) §" in (tmp_path / "tables" / f"main_{SOURCE}.md").read_text()


def test_publishing_adds_the_rows_of_packages_once(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_records(results / "records")
    write_records(results / "external", packages=True)
    write_json(results / "records" / "claims.json", [])
    write_json(results / "config.json", {"study": "synthetic"})
    for _ in range(2):
        manifest = publish(results, tmp_path / "out", "snakemake")
        assert manifest["rows_of_packages_added"] == 2
    before = read_table(results / "records" / "records.csv")
    after = read_table(tmp_path / "out" / "records.csv")
    assert len(after) == len(before) + 2
    assert len(read_table(tmp_path / "out" / "windows.csv")) > len(read_table(results / "records" / "windows.csv"))
    assert set(read_json(tmp_path / "out" / "manifest.json")["files"]) >= {"records.csv", "windows.csv"}
