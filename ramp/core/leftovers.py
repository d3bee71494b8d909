"""Temporary files and folders of jobs: named after their owner, and swept when that process is gone.

The owner stands in the name: a hash of the host and its namespace of process numbers, the number, and the time at which
the process started. What another host wrote, or a process that still runs, is never touched.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

OWNED = re.compile(r"^\..*\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)-(?P<start>\d+)(\.old)?\.(partial|scratch)$")


@lru_cache
def _host(process: int) -> str:
    """Return a name of this host since it was started; ``process`` keeps a fork from its parent's answer."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [os.readlink("/proc/self/ns/pid")]
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


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
    return f"{_host(process)}-{process}-{started(process) or 0}"


def abandoned(path: Path) -> bool:
    """Return whether a path is a temporary one of this host whose process is gone."""
    named = OWNED.match(path.name)
    if named is None or named["host"] != _host(os.getpid()):
        return False
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
