"""A program that a job waits for, and that ends with the job, however that ends.

A killed job runs no code of its own: Linux kills its child for it. Else the child goes on writing into the folder that
the next job empties.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

SET_SIGNAL_AT_PARENTS_END = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""


def run(line: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program as ``subprocess.run`` does, with its ``options``; it is killed where this process ends."""
    return subprocess.run(line, preexec_fn=_ending_with_parent(), check=False, **options)


def _ending_with_parent() -> Callable[[], None] | None:
    """Return what the child calls before it becomes the program; None where the system has no such thing."""
    if sys.platform != "linux":
        return None
    system, parent = ctypes.CDLL(None), os.getpid()

    def call() -> None:
        system.prctl(SET_SIGNAL_AT_PARENTS_END, signal.SIGKILL)
        if os.getppid() != parent:  # it ended meanwhile
            os._exit(1)

    return call
