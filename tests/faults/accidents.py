"""Kill, limit and double the stages of the chain: each a forked copy of a process that has imported everything."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ramp.core.stale_temporaries import abandoned
from ramp.records.intermediate_digests import content_digest
from tests.faults.chain import STAGES, Stage, call
from tests.faults.counts import Counts

HANG_S = 180.0
Limit = Callable[[], None]


@dataclass
class Process:
    """A running copy of one stage."""

    number: int
    log: Path
    began: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float) -> int | None:
        """Return the status as a shell gives it; None where it still runs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.number, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def kill(self) -> None:
        """Kill the process and all that it started, and collect it."""
        os.killpg(self.number, signal.SIGKILL)
        os.waitpid(self.number, 0)


WRITES = {
    "os.mkdir": (0, 2), "os.remove": (0, 1), "os.rmdir": (0, 1), "os.rename": (1, 3), "os.link": (1, 3),
    "os.symlink": (1, 2), "os.truncate": (0, None),
}  # fmt: skip
"""Events of Python's audit that change a disk -> the arguments that say where: a path, and the folder it starts at."""


def watch(allowed: Sequence[Path], told: int) -> None:
    """Write to ``told`` every path outside the ``allowed`` folders that this process writes to by Python."""
    places = tuple(f"{os.path.realpath(place)}{os.sep}" for place in (*allowed, "/dev", "/proc"))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        path, base = None, ""
        if event == "open" and isinstance(arguments[2], int):
            path = arguments[0] if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) else None
        elif event in WRITES:
            at, folder = WRITES[event]
            path = arguments[at]
            base = f"/proc/self/fd/{arguments[folder]}" if folder is not None and arguments[folder] != -1 else ""
        if isinstance(path, str | bytes | os.PathLike):
            name = os.path.join(base, os.fsdecode(path))
            real = os.path.join(os.path.realpath(os.path.dirname(name) or "."), os.path.basename(name))
            if not f"{real}{os.sep}".startswith(places):  # a file without a name is opened as its folder
                os.write(told, f"{event} {real}\n".encode())

    sys.addaudithook(hook)


def start(
    stage: Stage, folder: Path, limit: Limit | None = None, name: str = "log", outside: Path | None = None
) -> Process:
    """Fork a process that runs a stage in a folder, under a limit; ``outside`` lists what it writes elsewhere."""
    log = folder.with_name(f"{folder.name}.{name}")
    temporary = folder.with_name(f"{folder.name}.tmp")
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            sys.stdout = sys.stderr = os.fdopen(sink, "w", encoding="utf-8", closefd=False)  # not those of pytest
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if outside:
                sys.dont_write_bytecode = True
                temporary.mkdir(exist_ok=True)
                tempfile.tempdir = str(temporary)
                watch([folder, temporary], os.open(outside, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
            if limit:
                limit()
            status = call(stage, folder)
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else 1
        except BaseException:
            with suppress(OSError):
                traceback.print_exc()
        finally:
            with suppress(OSError):  # the log lies on a full disk
                sys.stdout.flush()
            os._exit(status)
    with suppress(OSError):  # it was faster
        os.setpgid(number, number)
    return Process(number, log)


def contents(folder: Path, outputs: Sequence[str]) -> dict[str, str]:
    """Return the digest of every final file below some outputs."""
    found = {}
    for output in outputs:
        path = folder / output
        files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
        for file in files:
            hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
            if file.is_file() and not hidden and file.name != "summary.txt":  # which says seconds
                found[file.relative_to(folder).as_posix()] = content_digest(file)
    return found


@dataclass
class Ground:
    """A finished study, and a folder in which copies of it suffer."""

    study: Path
    work: Path
    seconds: dict[str, float] = field(default_factory=dict)  # of every stage, undisturbed
    faults: list[str] = field(default_factory=list)

    def fresh(self, stage: Stage) -> Path:
        """Return a copy of the study without the outputs of a stage."""
        folder = self.work / "R"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.study, folder, symlinks=True, dirs_exist_ok=True)
        for output in stage.outputs:
            path = folder / output
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return folder

    def expected(self, stage: Stage) -> dict[str, str]:
        """Return what a stage should leave."""
        return contents(self.study, stage.outputs)

    def half_written(self, stage: Stage, folder: Path) -> str:
        """Return which final file is not as it should be, or an empty string."""
        expected = self.expected(stage)
        try:
            found = contents(folder, stage.outputs)
        except Exception as error:
            return f"{stage.name}: {error}"
        wrong = [name for name, digest in found.items() if expected.get(name) != digest]
        return f"{stage.name}: {wrong[0]} is half-written or false" if wrong else ""

    def ends_well(self, stage: Stage, folder: Path) -> str:
        """Run a stage undisturbed; return what is wrong afterwards, or an empty string."""
        outside = self.work / "outside"
        process = start(stage, folder, name="again", outside=outside)
        status = process.wait(HANG_S)
        if status is None:
            process.kill()
            return f"{stage.name}: hangs after the accident"
        if status or contents(folder, stage.outputs) != self.expected(stage):
            return f"{stage.name}: status {status} after the accident: {process.log.read_text()[-300:]}"
        if left := [path for path in folder.rglob(".*") if abandoned(path)]:
            return f"{stage.name}: {left[0].name} is left"
        written = outside.read_text(encoding="utf-8") if outside.is_file() else ""
        outside.unlink(missing_ok=True)
        return f"{stage.name} writes outside its study: {written.splitlines()[0]}" if written else ""

    def measure(self) -> None:
        """Run every stage once, for its seconds; raises where it does not give the study's own result."""
        for stage in STAGES:
            folder, began = self.fresh(stage), time.monotonic()
            if wrong := self.ends_well(stage, folder):
                raise RuntimeError(f"undisturbed, {wrong}")
            self.seconds[stage.name] = time.monotonic() - began

    def judge(
        self, stage: Stage, folder: Path, status: int | None, log: str | None, allowed: Callable[[], None]
    ) -> str:
        """Return how a disturbed run ended; ``allowed`` takes the disturbance away, ``log`` is None on a full disk."""
        allowed()
        wrong = self.half_written(stage, folder)
        outcome = self._outcome(stage, folder, status, log)
        wrong = wrong or self.ends_well(stage, folder)
        if wrong:
            self.faults.append(wrong)
            return "lost"
        return outcome

    def _outcome(self, stage: Stage, folder: Path, status: int | None, log: str | None) -> str:
        if status is None:
            self.faults.append(f"{stage.name}: hangs")
            return "hangs"
        if status == 0:
            if contents(folder, stage.outputs) == self.expected(stage):
                return "survived"
            self.faults.append(f"{stage.name}: ended well without its results")
            return "lost"
        told = [line for line in (log or "").splitlines() if line.startswith("error: ")]
        if status == 2 and (log is None or (len(told) == 1 and "Traceback" not in log)):
            return "clean"
        self.faults.append(f"{stage.name}: status {status}: {(log or 'its log lies on the full disk')[-600:]}")
        return "tracebacks"


def kills(ground: Ground, count: int, seed: int = 0) -> Counts:
    """Kill stages in turn at random moments; run each again."""
    draw, counts, tries = np.random.default_rng(seed), Counts(), 0
    while counts.injected < count and tries < 4 * count:
        stage = STAGES[tries % len(STAGES)]
        tries += 1
        folder = ground.fresh(stage)
        process = start(stage, folder)
        if process.wait(float(draw.uniform(0, ground.seconds[stage.name]))) is not None:
            continue  # it was faster
        process.kill()
        wrong = ground.half_written(stage, folder)
        if draw.random() < 0.3:  # once more, while it goes on
            process = start(stage, folder)
            if process.wait(float(draw.uniform(0, ground.seconds[stage.name]))) is None:
                process.kill()
                counts.add("survived")
                wrong = wrong or ground.half_written(stage, folder)
        wrong = wrong or ground.ends_well(stage, folder)
        if wrong:
            ground.faults.append(f"killed: {wrong}")
        counts.add("lost" if wrong else "survived")
    return counts


def mounted(folder: Path, options: str) -> bool:
    """Mount a disk in memory at a folder; return whether this machine allows it."""
    folder.mkdir(parents=True, exist_ok=True)
    line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


@contextmanager
def disk(folder: Path, size: int) -> Iterator[bool]:
    """Keep a disk of ``size`` bytes at a folder; yields whether there is one."""
    there = mounted(folder, f"size={size}")
    try:
        yield there
    finally:
        if there:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], capture_output=True, check=True)


def tree_bytes(folder: Path) -> int:
    """Return the bytes of all files of a folder on a disk with pages of 4 KiB."""
    return sum((path.lstat().st_size + 4095) // 4096 * 4096 + 4096 for path in (folder, *folder.rglob("*")))


def on_disks(ground: Ground, count: int, seed: int, *, read_only: bool) -> Counts:
    """Run stages on a disk that is nearly full, or that cannot be written."""
    draw, counts = np.random.default_rng(seed), Counts()
    place = Ground(ground.study, ground.work / "disk", ground.seconds, ground.faults)
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        with disk(place.work, 1 << 28) as there:
            if not there:
                return counts
            folder = place.fresh(stage)
            needs = sum(tree_bytes(ground.study / output) for output in stage.outputs)
            size = tree_bytes(place.work) + int(draw.uniform(0, 1.2 * needs))
            logs = ground.work / "logs"
            logs.mkdir(exist_ok=True)
            remount(place.work, "ro" if read_only else f"size={size // 4096 * 4096}")
            apart = read_only or number % 2 == 0  # else the sentence has no place to go to: the status says it
            process = _start_elsewhere(stage, folder, logs) if apart else start(stage, folder)
            status = process.wait(HANG_S)
            if status is None:
                process.kill()

            def free(where: Path = place.work) -> None:
                remount(where, "rw,size=268435456")

            log = process.log.read_text(errors="replace") if apart else None
            counts.add(place.judge(stage, folder, status, log, free))
    return counts


def _start_elsewhere(stage: Stage, folder: Path, logs: Path) -> Process:
    """Start a stage whose log lies on another disk."""
    link = logs / "R"
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    return start(stage, link)


def limits(ground: Ground, count: int, kind: str, seed: int) -> Counts:
    """Run stages under a limit on the size of a file, on open files, or on memory."""
    draw, counts = np.random.default_rng(seed), Counts()
    with open("/proc/self/statm", encoding="ascii") as stream:
        used = int(stream.read().split()[0]) * 4096
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        folder = ground.fresh(stage)
        share = float(draw.random())
        which, value = {
            "file size": (resource.RLIMIT_FSIZE, int(2 ** (8 + 12 * share))),
            "open files": (resource.RLIMIT_NOFILE, 4 + int(24 * share)),
            "memory": (resource.RLIMIT_AS, used + int(share * (192 << 20))),
        }[kind]

        def limit(which: int = which, value: int = value) -> None:
            resource.setrlimit(which, (value, resource.getrlimit(which)[1]))

        process = start(stage, folder, limit)
        status = process.wait(HANG_S)
        if status is None:
            process.kill()
        counts.add(ground.judge(stage, folder, status, process.log.read_text(errors="replace"), lambda: None))
    return counts


def at_once(ground: Ground, count: int, seed: int = 0) -> Counts:
    """Start one stage two or three times at the same moment, in one folder."""
    draw, counts = np.random.default_rng(seed), Counts()
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        folder = ground.fresh(stage)
        several = [start(stage, folder, name=f"log{i}") for i in range(int(draw.integers(2, 4)))]
        outcomes = []
        for process in several:
            status = process.wait(HANG_S)
            if status is None:
                process.kill()
            outcomes.append((status, process.log.read_text(errors="replace")))
        worst = max(outcomes, key=lambda outcome: (outcome[0] is None, outcome[0] != 0))
        counts.add(ground.judge(stage, folder, *worst, lambda: None))
    return counts
