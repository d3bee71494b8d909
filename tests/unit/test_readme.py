"""The README: its result table comes from the published records, its commands are those that CI runs."""

from pathlib import Path

import pytest

from paper.readme import TABLES, marks, with_results
from paper.study import Study
from ramp.errors import RampError

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = ROOT / "results" / "published"


def test_result_table_is_the_published_one() -> None:
    if (PUBLISHED / "records.csv").is_file():
        study = Study.read(PUBLISHED, PUBLISHED / "claims.json")
        assert with_results(README, study) == README, "run: python -m paper.readme"
    else:
        for begin, end in map(marks, TABLES):
            between = README.partition(begin)[2].partition(end)[0]
            assert not between.strip(), "the README shows results and results/published/ holds no records"


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
