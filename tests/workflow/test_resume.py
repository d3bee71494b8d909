"""kill -9 in the middle of a search, then again: the same allocation as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calls import REPO

pytestmark = pytest.mark.workflow

CLOCKS = {"search_wall_s", "wall_s", "seconds"}


def command(smoke: Path, out: Path, state: Path, *, seed: int = 7, evals: int = 24) -> list[str]:
    """A search of RAMP on the smoke study's own files."""
    model = "tiny-llama-s"
    options = {
        "model-dir": smoke / "models" / model,
        "bank": smoke / "bank" / model / "awq-gptq",
        "fold": smoke / "folds" / model / "awq.safetensors",
        "calibration": smoke / "calibration" / f"{model}.safetensors",
        "sensitivity": smoke / "sensitivity" / model / "awq-gptq.json",
        "search-text": smoke / "texts" / "search.jsonl",
        "selection-text": smoke / "texts" / "selection.jsonl",
        "search-windows": 16,
        "search-length": 32,
        "method-file": REPO / "baselines" / "ramp.py",
        "budget": 3.65,
        "evals": evals,
        "seed": seed,
        "study": "test",
        "out": out / "allocation.json",
        "artifacts": out / "artifacts",
        "state-dir": state,
        "threads": 1,
        "device": "cpu",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "ramp.search", *arguments]


def start(line: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    return subprocess.Popen(
        line, cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(line: list[str]) -> str:
    process = start(line)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def allocation(out: Path) -> dict:
    """What was found, without clocks."""
    found = json.loads((out / "allocation.json").read_text())
    return {key: value for key, value in found.items() if key not in CLOCKS}


def journal_lines(state: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in state.glob("*/journal.jsonl"))


def test_a_killed_search_goes_on_to_the_same_result(smoke: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(command(smoke, whole, tmp_path / "state-whole"))
    evaluations = journal_lines(tmp_path / "state-whole")
    state = tmp_path / "state-broken"
    victim = start(command(smoke, broken, state))
    try:
        deadline = time.monotonic() + 240
        while journal_lines(state) < 6 and victim.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    assert victim.returncode == -signal.SIGKILL, "the search ended before it could be killed: give it more evaluations"
    assert not (broken / "allocation.json").exists()
    kept = journal_lines(state)
    assert 0 < kept < evaluations
    finish(command(smoke, broken, state))
    assert journal_lines(state) == evaluations, "evaluations from before the kill were done again"
    assert allocation(broken) == allocation(whole)
    same = {file.name for file in (whole / "artifacts").iterdir()}
    assert same == {file.name for file in (broken / "artifacts").iterdir()}
    assert len(allocation(whole)["bits"]) > 10


def test_another_seed_finds_another_way(smoke: Path, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    finish(command(smoke, tmp_path / "a", tmp_path / "state", seed=7, evals=8))
    finish(command(smoke, tmp_path / "b", tmp_path / "state", seed=8, evals=8))
    logs = [(tmp_path / one / "artifacts" / "episodes.jsonl").read_text() for one in "ab"]
    assert logs[0] != logs[1]
    assert len(list((tmp_path / "state").iterdir())) == 2, "two searches, two folders of checkpoints"


def test_missing_inputs_are_named(smoke: Path, tmp_path: Path) -> None:
    """A missing bank, method file or model: one sentence each, status 2, nothing written."""
    for option, wrong in (
        ("--bank", tmp_path / "no-bank"),
        ("--model-dir", tmp_path / "no-model"),
        ("--method-file", tmp_path / "no.py"),
    ):
        line = command(smoke, tmp_path / "out", tmp_path / "state")
        line[line.index(option) + 1] = str(wrong)
        process = start(line)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 2, said
        assert said.strip().splitlines()[-1].startswith("error: "), said
        assert str(wrong) in said
        assert "Traceback" not in said
    assert not (tmp_path / "out" / "allocation.json").exists()
