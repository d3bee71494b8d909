"""The archive of a search without a learner: true evaluations within their number, none made twice, and a log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ramp.problem.problem import Allocation, Problem, Run, choose, encode


class Archive:
    """All allocations that one search has scored on search text, in order.

    An allocation that was scored before costs nothing. Every other one is a true evaluation and a row of the log:
    ``proposer``, ``kl``, ``ppl``, ``bytes``, ``best``.
    """

    def __init__(self, problem: Problem, run: Run) -> None:
        problem.check_budget()
        self.problem, self.run = problem, run
        self.choices: list[np.ndarray] = []
        self.losses: list[float] = []  # KL, nats per token; inf where it was not finite
        self._known: dict[str, float] = {}

    @property
    def left(self) -> int:
        """True evaluations that may still be made."""
        return self.run.evals - len(self.choices)

    def knows(self, choice: np.ndarray) -> bool:
        """Return whether ``choice`` [n] was scored."""
        return encode(self.problem.distinct(choice)) in self._known

    def score(self, choice: np.ndarray, proposer: str) -> float:
        """Return the KL on search text of ``choice`` [n]; ``AllocationError`` beyond ``run.evals`` different ones."""
        choice = self.problem.distinct(choice)
        key = encode(choice)
        if key not in self._known:
            score = self.problem.evaluate(choice)
            self.choices.append(np.array(choice, dtype=np.int64))
            self.losses.append(score.kl)
            self._known[key] = score.kl
            row: dict[str, Any] = {"proposer": proposer, "kl": score.kl, "ppl": score.ppl}
            self.run.log({**row, "bytes": self.problem.bytes_of(choice), "best": min(self.losses)})
        return self._known[key]

    def fresh(self, propose: Callable[[], np.ndarray], tries: int = 100) -> np.ndarray | None:
        """Return the first of ``tries`` proposals that was not scored yet; None where all were."""
        for _ in range(tries):
            choice = propose()
            if not self.knows(choice):
                return choice
        return None

    def finalists(self, count: int) -> list[np.ndarray]:
        """Return the ``count`` allocations with the least KL, best first; earlier ones win ties."""
        order = np.argsort(self.losses, kind="stable")[:count]
        return [self.choices[row] for row in order]

    def conclude(self, finalists: int, start: np.ndarray | None = None) -> Allocation:
        """Return the best of the finalists and of ``start``, where there is one, on selection text."""
        candidates = self.finalists(finalists)
        start = None if start is None else self.problem.distinct(start)
        if start is not None and encode(start) not in map(encode, candidates):
            candidates.append(start)
        chosen, _ = choose(self.problem, candidates)
        return Allocation(chosen, "best", start_choice=start)


def reported(problem: Problem, run: Run, choice: np.ndarray, proposer: str) -> Allocation:
    """Return an allocation that no search found; its one score is logged and decides nothing."""
    Archive(problem, run).score(choice, proposer)
    return Allocation(choice, "proxy", start_choice=choice)
