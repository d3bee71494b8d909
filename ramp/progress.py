"""Progress of a search: a bar where a person watches, plain lines where nobody does."""

from __future__ import annotations

import logging
import sys
from typing import Any

log = logging.getLogger("ramp.search")

LINES = 10
"""Log lines over a whole search, when nobody watches."""


class Progress:
    """Best so far, evaluations left and, on a terminal, time left."""

    def __init__(self, title: str, evals: int) -> None:
        self.title, self.evals, self.bar = title, evals, None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=evals, desc=title, unit="eval")

    def show(self, row: dict[str, Any]) -> None:
        """Tell one episode's row."""
        best = "none feasible yet" if row.get("best") is None else f"{row['best']:.5f}"
        if self.bar is not None:
            self.bar.update(row["evals"] - self.bar.n)
            self.bar.set_postfix_str(f"best {best}")
        elif row["evals"] in (1, self.evals) or row["evals"] % max(1, self.evals // LINES) == 0:
            log.info("%s: %d of %d evaluations, best %s", self.title, row["evals"], self.evals, best)

    def close(self) -> None:
        """End the bar."""
        if self.bar is not None:
            self.bar.close()
