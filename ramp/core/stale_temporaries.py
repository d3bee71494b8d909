"""Temporary files and folders of jobs: named after their owner, and swept when that process is gone.

The owner stands in the name: a hash of the machine with its namespace of process numbers, one of its start, the number
of the process, and the time at which it started. A process of this machine, since this start of it, is gone where
``/proc`` says so. Those of an earlier start went with it, unless the file was changed since: then two machines have one
name. Of another machine, or of another container, nothing is known: what no one has changed for ``FOREIGN_DAYS`` is
taken for abandoned, since a job that still runs writes, and no queue lets one run for so long.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from ramp.core.errors import RampError

OWNED = re.compile(
    r"^\..*\.(?P<machine>[0-9a-f]{8})-((?P<boot>[0-9a-f]{8})-)?(?P<process>\d+)-(?P<start>\d+)(\.old)?\.(partial|scratch)$"
)
"""Names of temporary files; without ``boot``, those of earlier versions."""

FOREIGN_DAYS = 30.0
"""Days without a change after which what another machine wrote is swept."""


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _system(path: str) -> str:
    """Return what a file of the system says; an empty string where there is none."""
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


@lru_cache
def _machine(process: int) -> tuple[str, str]:
    """Return names of this machine and of its present start; ``process`` keeps a fork from its parent's answer."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    boot = _system("/proc/sys/kernel/random/boot_id")
    return _hash(platform.node(), _system("/etc/machine-id"), space), _hash(boot)


def _booted() -> float:
    """Return when this machine was started, in seconds since the epoch; 0 where no one knows."""
    found = re.search(r"^btime (\d+)$", _system("/proc/stat"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def started(process: int) -> int | None:
    """Return when a process started, in ticks since the host did; 0 where no one knows, None where it is gone."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() and not _answers(process) else 0
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])  # proc(5): state, and the 22nd of all fields


def _answers(process: int) -> bool:
    """Return whether a process is there: /proc may hide those of other users."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def owner() -> str:
    """Return this process as it stands in the names of its temporary files."""
    process = os.getpid()
    machine, boot = _machine(process)
    return f"{machine}-{boot}-{process}-{started(process) or 0}"


def _changed(path: Path) -> float:
    """Return when a file, or anything in a folder, was last changed, in seconds since the epoch; now where unknown."""
    try:
        inner = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
        return max(each.lstat().st_mtime for each in (path, *inner))
    except OSError:
        return time.time()


def abandoned(path: Path) -> bool:
    """Return whether a path is a temporary one whose process is gone (see the module's docstring)."""
    named = OWNED.match(path.name)
    if named is None:
        return False
    machine, boot = _machine(os.getpid())
    if named["machine"] != machine or named["boot"] is None:
        return _changed(path) < time.time() - FOREIGN_DAYS * 86_400
    if named["boot"] != boot:
        return _changed(path) < _booted()
    found = started(int(named["process"]))
    return found is None or (found != int(named["start"]) and 0 not in (found, int(named["start"])))


def sweep(folder: Path) -> None:
    """Delete what killed jobs left in a folder; one process at a time, and another one's turn is not waited for."""
    left = [Path(entry) for entry in _names(folder) if abandoned(Path(entry))]
    if not left:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # locked by another, or a file system without locks: the next job sweeps
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in left:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.name.startswith(".")]
    except OSError:
        return []


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Yield an empty folder beside a path, deleted at the end; the next job deletes that of a killed one."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    sweep(beside.parent)
    end = f".{owner()}.scratch"
    with tempfile.TemporaryDirectory(prefix=f".{beside.name}.", suffix=end, dir=beside.parent) as folder:
        yield Path(folder)


@contextmanager
def temporary_folder(name: str, stands_for: str = "") -> Iterator[Path]:
    """Yield an empty folder on the disk for temporary files, deleted as that of ``scratch_folder``.

    ``stands_for`` takes its place in the message of a ``RampError``: the place of its files that a user knows.
    """
    with scratch_folder(Path(tempfile.gettempdir()) / name) as folder:
        try:
            yield folder
        except RampError as error:
            if stands_for:
                error.args = (str(error).replace(str(folder), stands_for),)
            raise
