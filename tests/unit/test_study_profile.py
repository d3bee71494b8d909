"""The profile of a study: what the logs of two runs say, by rule and model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.study_profile import ProfileError, main, markdown, marks, read_run
from ramp.records.table import read_table, table

REPO = Path(__file__).resolve().parents[2]


def run(root: Path, jobs: dict[str, float]) -> Path:
    """Return the folder of logs of a run: log -> processor seconds; below 0 a job that has not ended."""
    for model in ("tiny-s", "tiny"):
        (root / "models" / model).mkdir(parents=True)
    for name, cpu_s in jobs.items():
        path = root / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        end = (
            ""
            if cpu_s < 0
            else f"12:00:00 done in 9.0 s, with {cpu_s} s of processor time and 300 MiB of memory at peak"
        )
        path.write_text(f"12:00:00 begins\n{'' if cpu_s < 0 else end}\n")
    return root / "logs"


BEFORE = {"texts": 1.0, "bank/tiny-s/awq": 4.0, "bank/tiny/awq": 8.0, "old/x": 2.0}
AFTER = {"texts": 1.0, "bank/tiny-s/awq": 1.0, "bank/tiny-s.draw1/awq": 2.5, "bank/tiny/awq": 4.0, "halves/tiny-3": -1}


def test_jobs_are_summed_by_rule_and_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    before, after, out = run(tmp_path / "a", BEFORE), run(tmp_path / "b", AFTER), tmp_path / "profile.csv"
    assert main(["--study=s", f"--before={before}", f"--after={after}", f"--out={out}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "15.0", "8.5", "0.57"]
    rows = read_table(out, table("profile")).set_index(["rule", "model"])
    assert rows.loc[("bank", "tiny-s"), ["cpu_s_before", "cpu_s_after"]].tolist() == [4, 1]
    assert rows.loc[("bank", "tiny"), ["cpu_s_before", "cpu_s_after"]].tolist() == [8, 4]
    assert rows.loc[("old", "none"), "jobs"] == 0
    assert set(rows.index) == {
        ("texts", "none"), ("bank", "tiny-s"), ("bank", "tiny-s.draw1"), ("bank", "tiny"), ("old", "none")
    }  # fmt: skip
    assert rows["peak_rss_bytes"].dropna().unique().tolist() == [300 * 2**20]


def test_a_profile_is_the_state_before_the_next_change(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two runs after it: their mean, and the spread of the ratio; another study's rows stay."""
    before, after, out = run(tmp_path / "a", BEFORE), run(tmp_path / "b", AFTER), tmp_path / "profile.csv"
    other = run(tmp_path / "c", {"texts": 2.0, "bank/tiny/awq": 10.0})
    for study in ("other", "s"):
        main([f"--study={study}", f"--before={before}", f"--after={after}", f"--out={out}"])
    capsys.readouterr()
    assert main(["--study=s", f"--before={out}", "--after", str(after), str(other), f"--out={out}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all                        8.5      10.2  1.21 (1.00 to 1.41)"
    rows = read_table(out, table("profile")).set_index(["study", "rule", "model"])
    assert rows.loc[("s", "bank", "tiny"), ["cpu_s_before", "cpu_s_after"]].tolist() == [4, 7]
    assert rows.loc[("other", "bank", "tiny"), ["cpu_s_before", "cpu_s_after"]].tolist() == [8, 4]


def test_the_page_shows_the_published_profile() -> None:
    """docs/speed.md, as ``--page`` writes it from results/published/profile.csv."""
    rows = read_table(REPO / "results" / "published" / "profile.csv", table("profile"))
    page = (REPO / "docs" / "speed.md").read_text(encoding="utf-8")
    for study, part in rows.groupby("study"):
        assert f"{marks(study)[0]}\n\n{markdown(part.to_dict('records'))}\n\n{marks(study)[1]}" in page


def test_no_finished_job_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no log"):
        read_run(run(tmp_path, {"texts": -1}))


BUSY = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'sum(range(30_000_000))'])"


def test_a_whole_run_counts_what_nobody_waits_for() -> None:
    line = [sys.executable, "-m", "benchmarks.whole_run", sys.executable, "-c"]
    done = [subprocess.run([*line, code], cwd=REPO, capture_output=True, text=True) for code in (BUSY, "exit(3)")]
    busy, idle = (float(each.stderr.split(" s, ")[1].split()[0]) for each in done)
    assert busy > idle + 0.1  # seconds are written with one digit
    assert [each.returncode for each in done] == [0, 3]
