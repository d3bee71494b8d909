"""The smoke study through SLURM: jobs that ask for what is planned, and the records of a run on one machine.

    python -m tests.cluster.smoke --local results/smoke [--csv results/published/cluster.csv] [--folder FOLDER]
        [--target FILE] [-- SNAKEMAKE'S OPTIONS]

Starts a SLURM of one node (``tests/cluster/slurm``: root, Debian's slurm-wlm and munge), copies the project into
FOLDER, sends the study through ``profiles/slurm``, and compares its records with ``--local`` by ``ramp compare
--strict``. With ``--target`` only that file is made, and nothing is compared. The references ask for a card, of which
this SLURM pretends to have one. Snakemake's plugin:
``pip install --no-deps --require-hashes -r profiles/slurm/requirements.lock``.

Exit status: 0 where the records are equal, 1 where they are not or a job failed, 2 for bad input.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ramp.archive.contents import CODE, code_files
from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.provenance import processor
from ramp.records.compare_report import compare
from ramp.records.compare_side import Recorded
from ramp.records.table import read_table, write_table

REPO = Path(__file__).resolve().parents[2]
PLUGIN = "snakemake_executor_plugin_slurm"
CONFIG, RESULTS = "config/smoke.yaml", "results/smoke"
COMMAND = "make cluster-test"
DEFAULT_MB = "2000M"
"""Memory of jobs without a plan (profiles/slurm)."""

# There is no sacct without a database, so squeue tells of jobs that ended; and no account.
OPTIONS = (
    "--set-resources", "reference:gpu=1",
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5", "--slurm-no-account",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One job as the scheduler has it."""

    id: str
    state: str
    rule: str
    memory: str
    limit: str
    cards: str


def copy_project(folder: Path) -> None:
    """Copy what git tracks, in its present state."""
    for name, file in code_files(REPO).items():
        target = folder / name.removeprefix(f"{CODE}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)


COLUMNS = "JobID:12,State:14,Comment:200,MinMemory:14,TimeLimit:16,tres-per-job:24"
"""What squeue shows of a job, by width: the fields of ``Job``, without blanks in them."""


def jobs() -> Iterator[Job]:
    """Yield the scheduler's jobs, those that ended included (tests/cluster/slurm keeps them for an hour)."""
    command = ["squeue", "--states=all", "--noheader", "--Format", COLUMNS]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        yield Job(*line.split())


def send(folder: Path, more: Sequence[str]) -> tuple[float, int, str]:
    """Run Snakemake in ``folder`` through SLURM; return seconds, exit status and its log."""
    cores = str(os.cpu_count() or 1)
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", "--configfile", CONFIG]
    command += ["--jobs", cores, *OPTIONS, *more]
    began, lines = time.monotonic(), []
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    ) as running:
        assert running.stdout is not None  # a pipe was asked for
        for line in running.stdout:
            print(line, end="")
            lines.append(line)
    return time.monotonic() - began, running.returncode, "".join(lines)


def report(found: Sequence[Job]) -> str:
    """Return what the jobs asked for, in one line."""
    planned = [job for job in found if job.memory != DEFAULT_MB]
    with_cards = sum("gpu" in job.cards for job in found)
    limits = sorted({job.limit for job in found})
    sizes = sorted({int(job.memory.removesuffix("M")) for job in planned if job.memory.endswith("M")})
    span = f"{sizes[0]} to {sizes[-1]} MB" if sizes else "none"
    return (
        f"{len(found)} jobs, {len(planned)} with memory from the plan ({span}), {len(limits)} time limits, "
        f"{with_cards} with a card (pretended)"
    )


def note(found: Sequence[Job]) -> str:
    """Return scheduler, machine and what was asked for."""
    version = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    load = os.getloadavg()[2]
    return f"{version}, one node, {processor()}, {os.cpu_count()} cores, load {load:.1f}; {report(found)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    given = list(sys.argv[1:] if argv is None else argv)
    more = given[given.index("--") + 1 :] if "--" in given else []
    parser = argparse.ArgumentParser(description="Send the smoke study through SLURM and compare its records.")
    parser.add_argument("--local", type=Path, default=Path(RESULTS), help="results of the study on one machine")
    parser.add_argument("--csv", type=Path, help="table of executors to renew")
    parser.add_argument("--folder", type=Path, help="empty folder for the copy of the project; else a temporary one")
    parser.add_argument("--target", action="append", default=[], help="make this file alone, and compare nothing")
    args = parser.parse_args(given[: given.index("--")] if more else given)
    if importlib.util.find_spec(PLUGIN) is None:
        raise RampError(f"no {PLUGIN}: pip install --no-deps --require-hashes -r profiles/slurm/requirements.lock")
    local = None if args.target else Recorded.read(args.local)
    if subprocess.run([REPO / "tests" / "cluster" / "slurm", "up"], check=False).returncode:
        return 2
    folder = args.folder or Path(tempfile.mkdtemp(prefix="ramp-cluster-"))
    copy_project(folder)
    before = {job.id for job in jobs()}
    seconds, status, text = send(folder, [*args.target, *more])
    found = [job for job in jobs() if job.id not in before]
    submitted = len(set(re.findall(r"submitted with SLURM jobid (\d+)", text)))
    print(f"{folder}: {report(found)}; {submitted} submitted by Snakemake, {seconds:.0f} s")
    if status:
        return 1
    if local is None:
        return 0
    compared = compare(Recorded.read(folder / RESULTS), local, strict=True)
    print(compared.report())
    if args.csv:
        row = {"executor": "slurm", "study": "smoke", "jobs": submitted, "wall_s": round(seconds, 1)}
        row |= {"records_equal": not compared.faults, "note": note(found), "command": COMMAND}
        kept = read_table(args.csv).to_dict("records") if args.csv.is_file() else []
        others = [old for old in kept if (old["executor"], old["study"]) != ("slurm", "smoke")]
        write_table(args.csv, [*others, row])
    return int(bool(compared.faults))


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
