"""The schedule of search text: episodes are scored on parts of a pool in turn, relative to the warm start.

A search that scores everything on the same 2,048 tokens overfits them: its KL falls there and nowhere else. With parts
of a larger pool every episode is a fresh sample of text. A part may be hard for all allocations alike; so the start is
scored on every part first, and an episode's loss is

    KL(choice, part) / KL(start, part) * mean over parts of KL(start, .)

the ratio estimator of survey sampling (Cochran 1977, section 6.2): the factor of the part cancels. Costs are counted in
tokens: a part with half of an evaluation's tokens costs half an evaluation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ramp.problem.problem import AllocationError, Problem, encode
from ramp.rl.additive_critic import WHOLE
from ramp.scoring.score_type import Score

RESERVE = 3
"""Whole evaluations kept for the end, so that start, result and policy have a loss on the study's own windows."""


class TextSchedule:
    """The text that each episode is scored on, and how much of the evaluations is spent.

    Without a pool every episode is one whole evaluation. Environments evaluate with ``problem``.

    Args:
        problem: the search's own problem; with a pool its ``search_parts`` are the parts.
        evals: evaluations that the search may spend.
        pooled: whether episodes are scored on parts.

    Raises:
        AllocationError: there are no parts, or too few evaluations for them.
    """

    def __init__(self, problem: Problem, evals: int, pooled: bool) -> None:
        if pooled and not problem.search_parts:
            raise AllocationError(
                f"no search text in parts for {problem.model}: build the problem with the same pool_windows"
            )
        self.whole, self.evals, self.pooled = problem, evals, pooled
        self.problem = replace(problem, evaluate=self._evaluate) if pooled else problem
        self.cost = problem.part_cost if pooled else 1.0
        self.reserve = RESERVE if pooled else 0
        self.spent = 0.0  # evaluations
        parts = len(problem.search_parts) if pooled else 0
        self.anchors = np.full((parts, 2), np.nan)  # KL and NLL of the start on each part
        self.queue = np.zeros(0, dtype=np.int64)
        self.part = WHOLE
        if pooled and evals < parts * self.cost + RESERVE + 3 * self.cost:
            raise AllocationError(
                f"{evals} evaluations do not cover {parts} parts of search text once and {RESERVE} at the end: "
                "raise --evals or lower pool_windows"
            )

    @property
    def anchoring(self) -> bool:
        """Return whether the start is not yet scored on some part; until then losses cannot be compared."""
        return bool(np.isnan(self.anchors[:, 0]).any())

    @property
    def last(self) -> bool:
        """Return whether the next episode is the last."""
        return self.spent + 2 * self.cost > self.evals - self.reserve + 1e-9

    @property
    def done(self) -> bool:
        """Return whether the evaluations that are left pay for no further episode."""
        return self.spent + self.cost > self.evals - self.reserve + 1e-9

    def take(self, rng: np.random.Generator) -> int:
        """Pay for an episode and return the part that scores it; ``WHOLE`` for all parts or the start's mean."""
        self.spent += self.cost
        if not self.pooled:
            return WHOLE
        if self.anchoring:
            self.part = int(np.flatnonzero(np.isnan(self.anchors[:, 0]))[0])
            return WHOLE
        if not len(self.queue):
            self.queue = rng.permutation(len(self.anchors))
        self.part, self.queue = int(self.queue[0]), self.queue[1:]
        return self.part

    def _evaluate(self, choice: np.ndarray) -> Score:
        score = self.whole.search_parts[self.part](choice)
        if np.isnan(self.anchors[self.part, 0]):
            if not np.isfinite(score.kl):
                raise AllocationError(
                    f"the warm start's loss is not finite on part {self.part} of the search text: set pool_windows to 0"
                )
            self.anchors[self.part] = max(score.kl, 1e-12), score.nll
        level_kl, level_nll = np.nanmean(self.anchors, axis=0)
        kl = score.kl * level_kl / self.anchors[self.part, 0]
        nll = score.nll - self.anchors[self.part, 1] + level_nll
        return Score(float(kl), float(np.exp(nll)), float(nll), score.tokens)

    def score_whole(self, *choices: np.ndarray | None) -> None:
        """Score allocations on the study's own windows, out of the reserve; without a pool they already are."""
        if self.pooled:
            wanted = {encode(choice): choice for choice in choices if choice is not None}
            for choice in list(wanted.values())[: self.reserve]:
                self.whole.evaluate(choice)
