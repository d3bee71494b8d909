"""The end of a stage's log: what ``ramp.core.cli.run`` writes there, and the reader of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DONE = re.compile(r"done in ([\d.]+) s, with ([\d.]+) s of processor time and (\d+) MiB of memory at peak\s*$")


@dataclass(frozen=True)
class JobCost:
    """Time and memory that a finished job took."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


def job_cost(log: Path) -> JobCost | None:
    """Return what a job took by the last line of its log; None where it has not ended, or left no log."""
    if not log.is_file():
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    found = DONE.search(lines[-1]) if lines else None
    return None if found is None else JobCost(float(found[1]), float(found[2]), int(found[3]) << 20)
