"""Processor time of a stage by function of this project: every stage run with ``RAMP_PROFILE=DIR`` in its environment.

The kernel interrupts the process after every 10 ms of its processor time. What has passed since the last interruption
is counted to the innermost function of the project that is running: time in torch counts to the function that called
it. Threads of a library are counted, other processes are not. ``benchmarks.study_profile`` sums the files of a run.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Self

from ramp.core.atomic_files import write_text

VARIABLE = "RAMP_PROFILE"
"""Environment variable with the folder that each profiled process leaves a file in."""

INTERVAL_S = 0.01
PROJECT = Path(__file__).parents[2]
OTHER = "none"
"""Stands for the function where none of the project is running."""


class FunctionTimes:
    """Seconds of processor time by function, while the context is open; written to a JSON file when it closes."""

    is_open = False  # a process has one timer: ``python -m ramp NAME`` runs a command within a command

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{os.getpid()}-{time.time_ns()}.json"
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __enter__(self) -> Self:
        FunctionTimes.is_open = True
        self.last = time.process_time()
        self.before = signal.signal(signal.SIGPROF, self._count)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, self.before)
        self._count(signal.SIGPROF, None)
        FunctionTimes.is_open = False
        write_text(self.file, json.dumps(self.seconds))

    def _count(self, _: int, frame: FrameType | None) -> None:
        # a signal waits for the end of a call of a library, so the time is read and not assumed
        now = time.process_time()
        self.seconds[function_of(frame)] += now - self.last
        self.last = now


def function_of(frame: FrameType | None) -> str:
    """Return the innermost function of the project on a stack, as ``path:name``; ``OTHER`` where there is none."""
    root = f"{PROJECT}{os.sep}"
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(root) and f"{os.sep}site-packages{os.sep}" not in code.co_filename:
            return f"{code.co_filename.removeprefix(root)}:{code.co_qualname}"
        frame = frame.f_back
    return OTHER
