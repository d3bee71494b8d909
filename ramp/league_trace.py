"""What one search evaluated, in order, and who would have been its incumbent at any moment. numpy only.

The league's rule is one for all methods: after e evaluations on search text the incumbent is the best on selection text
among the five best feasible allocations on search text so far and the start. A method's own idea of its best plays no
part, so that methods differ in what they evaluate and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ramp.problem import Problem, Score

FINALISTS = 5
"""Best allocations on search text that are scored on selection text, beside the start."""


def encode(choice: Sequence[int] | np.ndarray) -> str:
    """An allocation as one digit per linear: the index of its width (menus have at most seven)."""
    return "".join(str(int(index)) for index in choice)


def decode(text: str) -> np.ndarray:
    """``encode`` undone: int64 [n]."""
    return np.array([int(digit) for digit in text], dtype=np.int64)


@dataclass
class Trace:
    """Every evaluation on search text of one run, in order, repeated ones included."""

    choices: list[str] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)  # on search text; infinite where not finite
    bytes: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # forward tokens charged up to and including this evaluation

    def __len__(self) -> int:
        return len(self.choices)

    def watch(self, problem: Problem, charged: Callable[[], int]) -> None:
        """Write down every later ``problem.evaluate``; ``charged`` gives the forward tokens spent so far."""
        evaluate = problem.evaluate

        def noted(choice: np.ndarray) -> Score:
            score = evaluate(choice)
            self.choices.append(encode(choice))
            self.kl.append(float(score.kl))
            self.bytes.append(problem.bytes_of(choice))
            self.tokens.append(charged())
            return score

        problem.evaluate = noted

    def dump(self) -> dict[str, Any]:
        """As something that a checkpoint holds."""
        return {"choices": list(self.choices), "kl": list(self.kl), "bytes": list(self.bytes), "tokens": [*self.tokens]}

    def restore(self, kept: dict[str, Any]) -> None:
        """Back to the moment of ``dump``; whoever watches goes on writing into this very trace."""
        self.choices[:], self.kl[:] = kept["choices"], kept["kl"]
        self.bytes[:], self.tokens[:] = kept["bytes"], kept["tokens"]

    def ranked(self, upto: int, budget_bytes: int) -> list[int]:
        """Positions of the feasible allocations among the first ``upto``, best first, each allocation once."""
        kl, size = np.array(self.kl[:upto]), np.array(self.bytes[:upto])
        usable = np.flatnonzero(np.isfinite(kl) & (size <= budget_bytes)) if upto else np.zeros(0, dtype=int)
        seen: dict[str, int] = {}
        for position in usable[np.argsort(kl[usable], kind="stable")]:
            seen.setdefault(self.choices[position], int(position))
        return list(seen.values())

    def finalists(self, upto: int, budget_bytes: int, start: str | None) -> list[str]:
        """The candidates of the incumbent after ``upto`` evaluations: the start, then the best on search text."""
        best = [self.choices[position] for position in self.ranked(upto, budget_bytes)[:FINALISTS]]
        return list(dict.fromkeys([*([start] if start else []), *best]))

    def changes(self, budget_bytes: int) -> list[int]:
        """Positions at which the best feasible allocation on search text changed."""
        best, found = np.inf, []
        for position, (kl, size) in enumerate(zip(self.kl, self.bytes, strict=True)):
            if size <= budget_bytes and kl < best:
                best = kl
                found.append(position)
        return found


def thinned(changes: Sequence[int], evals: int, points: int) -> list[int]:
    """Of the positions at which an incumbent changed, those that hold at ``points`` log-spaced evaluations.

    The first and the last are always kept.
    """
    if not changes:
        return []
    at = np.unique(np.round(np.geomspace(changes[0] + 1, max(evals, changes[0] + 1), max(points, 1))).astype(int))
    holding = {max(position for position in changes if position < moment) for moment in at}
    return sorted(holding | {changes[0], changes[-1]})
