"""Processor time by function: what a library does counts to the function of the project that called it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.study_profile import main, marks
from ramp.core.atomic_files import read_json, sha256_file
from ramp.core.errors import RampError
from ramp.core.function_times import VARIABLE, FunctionTimes
from tests.unit.test_study_profile import BEFORE, run

REPO = Path(__file__).resolve().parents[2]


def test_time_in_a_library_counts_to_its_caller(tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(bytes(2**20) * 64)
    with FunctionTimes(tmp_path / "profile") as times:
        for _ in range(4):
            sha256_file(file)
    (left,) = (tmp_path / "profile").glob("*.json")
    seconds = read_json(left, dict[str, float])
    assert seconds == dict(times.seconds)
    assert max(seconds, key=seconds.__getitem__) == "ramp/core/atomic_files.py:sha256_file"


def test_a_stage_of_its_own_process_leaves_a_file(tmp_path: Path) -> None:
    environment = {**os.environ, VARIABLE: str(tmp_path / "profile")}
    audit = [sys.executable, "-m", "ramp", "audit", "--bits", "3.65", "--gb", "3.68", "--model", "llama-2-7b"]
    done = subprocess.run(audit, cwd=REPO, env=environment, check=True, capture_output=True, text=True)
    (left,) = (tmp_path / "profile").glob("*.json")  # ``python -m ramp`` runs the command within a command of its own
    found = re.search(r"with ([\d.]+) s of processor time", done.stderr)
    assert found is not None
    assert 0 < sum(read_json(left, dict[str, float]).values()) <= float(found[1]) + 0.1


def test_the_page_gets_the_dearest_functions(tmp_path: Path) -> None:
    folder, page = tmp_path / "profile", tmp_path / "page.md"
    folder.mkdir()
    (folder / "1.json").write_text('{"ramp/a.py:f": 3.0, "ramp/b.py:g": 1.0}')
    (folder / "2.json").write_text('{"ramp/a.py:f": 4.0}')
    page.write_text("\n\n\n\n".join(mark for what in ("profile", "functions") for mark in marks("s", what)))
    after = run(tmp_path / "a", BEFORE)
    assert not main(
        ["--study=s", f"--after={after}", f"--out={tmp_path / 'p.csv'}", f"--page={page}", f"--functions={folder}"]
    )
    lines = page.read_text().split(marks("s", "functions")[0])[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert cells[1:] == [["`ramp/a.py:f`", "7.0", "87.5%"], ["`ramp/b.py:g`", "1.0", "12.5%"], ["all", "8.0", "100.0%"]]


def test_functions_without_a_page_are_refused(tmp_path: Path) -> None:
    after = run(tmp_path / "a", BEFORE)
    with pytest.raises(RampError, match="give --page"):
        main(["--study=s", f"--after={after}", f"--out={tmp_path / 'p.csv'}", f"--functions={tmp_path}"])
    assert not (tmp_path / "p.csv").exists()
