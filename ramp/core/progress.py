"""Progress of a search: a bar on a terminal, log lines otherwise."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

from ramp.core.cli import log

LINES = 10
"""Log lines over a whole search."""

RECENT = 10
"""Evaluations whose pace predicts the rest: changes of one linear take less than whole allocations."""

REPLAYED_S = 0.05
"""Seconds below which an evaluation was read from a journal: the pace of these predicts nothing."""


class Progress:
    """Best so far, evaluations left and time left."""

    def __init__(self, title: str, evals: int) -> None:
        self.title, self.evals, self.bar = title, evals, None
        self.shown = 0
        self.recent: deque[tuple[int, float]] = deque(maxlen=RECENT + 1)  # evaluations done, and when
        if sys.stderr.isatty():
            from tqdm import tqdm

            # the bar's own format has evaluations done and all, time passed and left
            self.bar = tqdm(total=evals, desc=title, unit="eval")

    def show(self, row: dict[str, Any]) -> None:
        """Show one episode's row."""
        best = "none feasible yet" if row.get("best") is None else f"{row['best']:.5f}"
        done = int(row["evals"])
        if self.bar is not None:
            self.bar.update(done - self.bar.n)
            self.bar.set_postfix_str(f"best {best}, {self.evals - done} left")
            return
        if not self.recent or done != self.recent[-1][0]:
            self.recent.append((done, time.monotonic()))
        step = max(1, self.evals // LINES)
        if done != self.shown and (self.shown == 0 or done == self.evals or done // step > self.shown // step):
            self.shown = done
            log.info("%s: %d of %d evaluations, best %s%s", self.title, done, self.evals, best, self.left(done))

    def left(self, done: int) -> str:
        """Return the time that the evaluations left will take at the pace of the last ones; empty if unknown."""
        (first, began), (last, ended) = self.recent[0], self.recent[-1]
        pace = (ended - began) / max(last - first, 1)
        if pace < REPLAYED_S or done == self.evals:
            return ""
        seconds = round(pace * (self.evals - done))
        return f", {seconds} s left" if seconds < 120 else f", {seconds // 60} min left"

    def close(self) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.close()
