"""What one search evaluated, in order, and who would have been its incumbent at any moment. numpy only.

The league's rule is one for all methods: after e evaluations on search text the incumbent is the best on selection text
among the five best feasible allocations on search text so far and the start. A method's own idea of its best plays no
part, so that methods differ in what they evaluate and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ramp.problem.cost import spent_evals
from ramp.problem.problem import Problem, decode, encode
from ramp.scoring.score import Score

FINALISTS = 5
"""Best allocations on search text that are scored on selection text, beside the start."""


@dataclass
class Trace:
    """Every score on search text of one run, in order, repeated ones included.

    A method may score episodes on parts of the text (``Problem.search_parts``); what it then logs as ``kl`` is its
    estimate for the allocation, and allocations are ranked by those estimates alone.
    """

    choices: list[str] = field(default_factory=list)
    kl: list[float] = field(
        default_factory=list
    )  # on search text, or the method's estimate of it; infinite if not finite
    bytes: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # forward tokens charged up to and including this score
    evals: list[int] = field(default_factory=list)  # evaluations spent likewise; parts count by their tokens
    whole: list[bool] = field(default_factory=list)  # scored on all of the text
    pending: str | None = field(default=None, compare=False)  # scored on a part, not yet logged

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def spent(self) -> int:
        """Evaluations of the whole run."""
        return self.evals[-1] if self.evals else 0

    def upto(self, evals: int) -> int:
        """How many scores the first ``evals`` evaluations paid for."""
        return int(np.searchsorted(self.evals, evals, side="right"))

    def watch(self, problem: Problem, charged: Callable[[], int]) -> Callable[[Mapping[str, Any]], None]:
        """Write down every later score of ``problem``; ``charged`` gives the forward tokens spent so far.

        Returns:
            What has to be called with every row that the method logs.
        """
        evaluate, parts = problem.evaluate, list(problem.search_parts)

        def note(choice: str, kl: float, whole: bool) -> None:
            parted = sum(getattr(part, "evals", 0) for part in parts)
            self.choices.append(choice)
            self.kl.append(kl if np.isfinite(kl) else np.inf)
            self.bytes.append(problem.bytes_of(decode(choice)))
            self.tokens.append(charged())
            self.evals.append(spent_evals(problem, sum(self.whole) + int(whole), parted))
            self.whole.append(whole)

        def noted(choice: np.ndarray) -> Score:
            score = evaluate(choice)
            note(encode(choice), float(score.kl), True)
            return score

        def on_part(part: Callable[[np.ndarray], Score]) -> Callable[[np.ndarray], Score]:
            def scored(choice: np.ndarray) -> Score:
                self.pending = encode(choice)
                return part(choice)

            return scored

        def logged(row: Mapping[str, Any]) -> None:
            if self.pending is not None:
                kl = row.get("kl")
                note(self.pending, float("inf") if kl is None else float(kl), False)
                self.pending = None

        problem.evaluate = noted
        if parts:
            problem.search_parts = [on_part(part) for part in parts]
        return logged

    def dump(self) -> dict[str, Any]:
        """As something that a checkpoint holds."""
        return {name: list(getattr(self, name)) for name in LISTS}

    def restore(self, kept: dict[str, Any]) -> None:
        """Back to the moment of ``dump``; whoever watches goes on writing into this very trace."""
        for name in LISTS:
            getattr(self, name)[:] = kept[name]

    def ranked(self, upto: int, budget_bytes: int) -> list[int]:
        """Positions of the feasible allocations among the first ``upto`` scores, best first.

        Each allocation once, by its latest score; where parts were scored, by those alone.
        """
        latest: dict[str, int] = {}
        for position in self._comparable(upto):
            latest[self.choices[position]] = position
        usable = [p for p in latest.values() if np.isfinite(self.kl[p]) and self.bytes[p] <= budget_bytes]
        return sorted(usable, key=lambda p: (self.kl[p], p))

    def _comparable(self, upto: int) -> list[int]:
        """Positions of scores that can be compared with each other."""
        parted = not all(self.whole)
        return [position for position in range(upto) if not (parted and self.whole[position])]

    def finalists(self, upto: int, budget_bytes: int, start: str | None) -> list[str]:
        """The candidates of the incumbent after ``upto`` scores: the start, then the best on search text."""
        best = [self.choices[position] for position in self.ranked(upto, budget_bytes)[:FINALISTS]]
        return list(dict.fromkeys([*([start] if start else []), *best]))

    def changes(self, budget_bytes: int) -> list[int]:
        """Positions at which the best feasible allocation on search text changed."""
        best, found = np.inf, []
        for position in self._comparable(len(self)):
            if self.bytes[position] <= budget_bytes and self.kl[position] < best:
                best = self.kl[position]
                found.append(position)
        return found


LISTS = ("choices", "kl", "bytes", "tokens", "evals", "whole")
"""What a trace keeps across kills."""


def thinned(changes: Sequence[int], length: int, points: int) -> list[int]:
    """Of the positions at which an incumbent changed, those that hold at ``points`` log-spaced moments of ``length``.

    The first and the last are always kept.
    """
    if not changes:
        return []
    at = np.unique(np.round(np.geomspace(changes[0] + 1, max(length, changes[0] + 1), max(points, 1))).astype(int))
    holding = {max(position for position in changes if position < moment) for moment in at}
    return sorted(holding | {changes[0], changes[-1]})
