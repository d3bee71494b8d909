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

from ramp.core import cli
from ramp.search.__main__ import main
from tests.sealed import read_json

pytestmark = pytest.mark.workflow

CLOCKS = {"search_wall_s", "wall_s", "seconds"}


def command(smoke: Path, out: Path, state: Path, *, seed: int = 7, evals: int = 24) -> list[str]:
    """The arguments of a search of RAMP on the smoke study's own files."""
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
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "ramp.search", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    return subprocess.Popen(
        line, cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(arguments: list[str]) -> None:
    process = start(arguments)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said


def allocation(out: Path) -> dict:
    """Return what was found, without clocks."""
    found = read_json(out / "allocation.json")
    return {key: value for key, value in found.items() if key not in CLOCKS}


def journal(state: Path) -> list[tuple[str, tuple[int, ...]]]:
    """The evaluations in all checkpoints: which text, which allocation."""
    lines = [line for file in state.glob("*/journal.jsonl") for line in file.read_bytes().splitlines(keepends=True)]
    whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [(entry["text"], tuple(entry["choice"])) for entry in whole]


def watch(process: subprocess.Popen[str], state: Path, until: int) -> list[tuple[str, tuple[int, ...]]]:
    """The journal as last seen before it holds ``until`` entries or the process ends (which removes it)."""
    seen: list[tuple[str, tuple[int, ...]]] = []
    deadline = time.monotonic() + 240
    while len(seen) < until and process.poll() is None and time.monotonic() < deadline:
        seen = journal(state) or seen
        time.sleep(0.01)
    return seen


def test_a_killed_search_goes_on_to_the_same_result(smoke: Path, tmp_path: Path) -> None:
    whole, broken, state = tmp_path / "whole", tmp_path / "broken", tmp_path / "state"
    finish(command(smoke, whole, tmp_path / "another-state"))
    victim = start(command(smoke, broken, state))
    try:
        watch(victim, state, until=6)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    assert victim.returncode == -signal.SIGKILL, "the search ended before it could be killed: give it more evaluations"
    assert not (broken / "allocation.json").exists()
    kept = journal(state)
    assert 0 < len(kept) < allocation(whole)["search_evals"]

    second = start(command(smoke, broken, state))
    seen = watch(second, state, until=len(kept) + 4)
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert seen[: len(kept)] == kept, "it did not go on from the checkpoint"
    assert len(set(seen)) == len(seen), "an evaluation from before the kill was done again"
    assert allocation(broken) == allocation(whole)
    for one in sorted((whole / "artifacts").iterdir()):
        if one.suffix == ".safetensors":
            assert (broken / "artifacts" / one.name).read_bytes() == one.read_bytes(), one.name
    assert len(allocation(whole)["bits"]) > 10


def test_another_seed_finds_another_way(smoke: Path, tmp_path: Path) -> None:
    """Else the test above could not fail. No process of its own is needed for that."""
    for out, seed in (("a", 7), ("b", 8)):
        assert cli.run(main, command(smoke, tmp_path / out, tmp_path / "state", seed=seed, evals=8)) == 0
    logs = [(tmp_path / one / "artifacts" / "episodes.jsonl").read_text() for one in "ab"]
    assert logs[0] != logs[1]


def test_missing_inputs_are_named(smoke: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A missing bank, method file or model: one sentence each, status 2, nothing written."""
    for option, wrong in (
        ("--bank", tmp_path / "no-bank"),
        ("--model-dir", tmp_path / "no-model"),
        ("--method-file", tmp_path / "no.py"),
    ):
        line = command(smoke, tmp_path / "out", tmp_path / "state")
        line[line.index(option) + 1] = str(wrong)
        status = cli.run(main, line)
        said = "".join(capfd.readouterr())
        assert status == 2, said
        assert said.strip().splitlines()[-1].startswith("error: "), said
        assert str(wrong) in said
        assert "Traceback" not in said
    assert not (tmp_path / "out" / "allocation.json").exists()
