"""The lock of a package's environment: one run installs it, or several use it.

Runs in other working directories share the project's ``.envs``, and Snakemake's lock is one of a working directory.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ramp.core.cli import log


@contextmanager
def environment_lock(folder: Path, *, shared: bool) -> Iterator[None]:
    """Hold the lock beside the folder of an environment: with others that use it, or alone.

    Where no lock can be had (a folder that cannot be written, a file system without locks), nothing is held.
    """
    handle = None
    try:
        handle = _locked(folder.with_name(f".{folder.name}.lock"), fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        log.warning("no lock beside %s (%s): let no other run install it now", folder, error.strerror)
    try:
        yield
    finally:
        if handle is not None:
            handle.close()


def _locked(file: Path, kind: int) -> IO[str]:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = open(file, "a", encoding="utf-8")  # noqa: SIM115 - its lock is held until it is closed
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("waiting for another run, which installs or uses the environment (%s)", file)
        fcntl.flock(handle, kind)
    return handle
