"""The published plan of the paper's study: its page, the README's numbers, and what the issue of it promises."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from ramp.core.errors import RampError
from ramp.plan.beside_run import Checked
from ramp.plan.devices import CARDS, processor
from ramp.plan.dry_run import Job
from ramp.plan.job_costs import JobCosts
from ramp.plan.quantities import Facts
from ramp.plan.render import as_text, check_rows, marks, on_page, plan_rows
from ramp.plan.table import plan_study
from ramp.records.table import read_table, table, write_table
from tests.plans import REPO, plan_of

PAGE = (REPO / "docs" / "paper-scale.md").read_text(encoding="utf-8")
HOW = "run the two commands of docs/paper-scale.md"


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return read_table(REPO / "results" / "published" / "plan_paper.csv").set_index("stage")


def lines_of(device: str) -> dict[str, list[str]]:
    """The rows between a device's marks, by stage."""
    first, last = marks(device)
    between = PAGE.partition(first)[2].partition(last)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in between.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows[2:]}


def test_the_page_has_the_published_numbers(published: pd.DataFrame) -> None:
    listed = lines_of("h200")
    assert set(listed) == set(published.index), HOW
    for stage, row in published.iterrows():
        jobs, hours, *sizes = listed[stage][:6]
        assert (int(jobs), float(hours)) == (row["jobs"], pytest.approx(row["hours"], abs=0.006)), HOW
        kinds = ("gpu_gb", "host_gb", "disk_gb", "download_gb")
        assert [float(size or 0) for size in sizes] == [row[kind] for kind in kinds], HOW
    assert {stage: row[0] for stage, row in lines_of("a100-80").items()} == {s: row[0] for s, row in listed.items()}


def test_the_readme_has_the_published_numbers(published: pd.DataFrame) -> None:
    total = published.loc["total"]
    readme = (REPO / "README.md").read_text(encoding="utf-8")
    assert f"a 40 GB GPU, {total['host_gb']:.0f} GB of memory and {total['disk_gb']:.0f} GB of disk" in readme
    assert f"A100 80 GB: {float(lines_of('a100-80')['total'][1]):.0f} hours" in readme
    assert f"| from start to end | {total['hours']:.1f} |" in readme
    assert CARDS[lines_of("h200")["total"][-2]].memory <= 40 * 2**30


def test_the_papers_study_fits_in_two_days_of_an_h200_and_400_gb(published: pd.DataFrame) -> None:
    total = published.loc["total"]
    assert total["hours"] < 48
    assert total["disk_gb"] < 400
    assert plan_of("paper.yaml").study.keep == "results"


def test_a_plan_becomes_a_table_a_page_and_text(tmp_path: Path) -> None:
    costs = JobCosts.on(Facts(plan_of("smoke.yaml")), processor())
    plan = plan_study(costs, [Job("calibration", {"model": "tiny-llama-s"}, (), ("R/c",), "")], cores=2)
    write_table(tmp_path / "plan.csv", plan_rows(plan), table("plan_paper"))
    found = read_table(tmp_path / "plan.csv", table("plan_paper"))
    assert list(found["stage"]) == ["calibration", "total"]
    first, last = marks("cpu")
    page = on_page(f"# Page\n{first}\nold\n{last}\nrest", plan)
    assert "old" not in page
    assert page.endswith("rest")
    assert on_page(page, plan) == page
    assert "calibration" in as_text(plan)
    with pytest.raises(RampError, match="no marks"):
        on_page("# Page", plan)
    checked = [Checked("banks", 1, 2.0, 1.0), Checked("fetch", 1, 0.1, 0.0)]
    write_table(tmp_path / "check.csv", check_rows(checked), table("plan_check"))
    assert read_table(tmp_path / "check.csv", table("plan_check"))["ratio"].tolist()[0] == 2.0
