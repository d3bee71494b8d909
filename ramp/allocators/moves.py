"""Random changes of an allocation that stay at the budget: some linears a level up, others a level down.

The level switch of EvoPress (Sieberling et al. 2024, arXiv:2410.14649) trades a level between two linears of one size.
Linears differ in size, so bytes are traded, as its authors' code does between groups: some linears are raised, then
random ones lowered until the allocation fits, then leftover bytes are spent. Their code rejects offspring that lost too
many bits; spending the rest keeps every one at the budget instead.
"""

from __future__ import annotations

import numpy as np

from ramp.problem.problem import Problem


class Ladder:
    """The widths of every linear in order of size: one level up is the next larger width.

    A linear has a level for each width that differs (``Problem.alike``), so that a change of level is a change.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem, self.budget = problem, problem.budget_bytes
        count = problem.bytes.shape[1]
        own = np.ones_like(problem.bytes, dtype=bool) if problem.alike is None else problem.alike == np.arange(count)
        self.order = np.where(own, problem.bytes, np.iinfo(np.int64).max).argsort(axis=1, kind="stable")
        self.top = own.sum(axis=1) - 1  # [n]: highest level of each linear
        self.rank = self.order.argsort(axis=1)  # [n, w]: width index -> level
        self.rows = np.arange(problem.n)
        # int64 [n, w], rising: level -> bytes; above the top the top's, which no level reads
        levels = np.minimum(np.arange(count), self.top[:, None])
        self.sizes = np.take_along_axis(problem.bytes, np.take_along_axis(self.order, levels, axis=1), axis=1)

    def levels(self, choice: np.ndarray) -> np.ndarray:
        """Return width indices [n] as levels [n]."""
        return self.rank[self.rows, self.problem.distinct(choice)]

    def choice(self, levels: np.ndarray) -> np.ndarray:
        """Return levels [n] as width indices [n]."""
        return self.order[self.rows, levels]

    def bytes_of(self, levels: np.ndarray) -> int:
        """Return the bytes of an allocation given by levels int [n]."""
        return int(self.sizes[self.rows, levels].sum())

    def steps_up(self, levels: np.ndarray) -> np.ndarray:
        """Return the bytes [n] that one level up costs each linear; the largest integer at the top level."""
        following = self.sizes[self.rows, np.minimum(levels + 1, self.top)] - self.sizes[self.rows, levels]
        return np.where(levels < self.top, following, np.iinfo(np.int64).max)

    def raise_some(self, levels: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
        """Raise ``count`` random linears by one level, in place, and return which; the budget is not checked.

        levels: int64 [n]. Fewer are raised where all others are at their top.
        """
        raised = []
        for _ in range(count):
            able = np.flatnonzero(levels < self.top)
            if not len(able):
                break
            raised.append(int(rng.choice(able)))
            levels[raised[-1]] += 1
        return raised

    def lower_until_it_fits(self, levels: np.ndarray, rng: np.random.Generator, spare: list[int]) -> None:
        """Lower random linears by one level, in place, until the budget is met; those of ``spare`` last.

        levels: int64 [n]; spare: linears by index. ``ValueError`` where even the lowest levels exceed the budget.
        """
        over = self.bytes_of(levels) - self.budget
        spared = np.isin(self.rows, spare)
        while over > 0:
            able = np.flatnonzero((levels > 0) & ~spared)
            if not len(able):
                able = np.flatnonzero(levels > 0)
            i = int(rng.choice(able))
            over -= int(self.sizes[i, levels[i]] - self.sizes[i, levels[i] - 1])
            levels[i] -= 1

    def spend(self, levels: np.ndarray, rng: np.random.Generator) -> None:
        """Raise random linears that still fit by one level, in place, until none does; levels: int64 [n]."""
        left = self.budget - self.bytes_of(levels)
        while True:
            steps = self.steps_up(levels)
            able = np.flatnonzero(steps <= left)
            if not len(able):
                return
            i = int(rng.choice(able))
            left -= int(steps[i])
            levels[i] += 1


def mutate(problem: Problem, choice: np.ndarray, rng: np.random.Generator, most: int = 3) -> np.ndarray:
    """Return another allocation [n] at the budget, a few level switches away from ``choice`` [n].

    The number of raised linears is the smaller of two uniform draws from 1 to ``most``, as in EvoPress.
    """
    ladder = Ladder(problem)
    levels = ladder.levels(choice)
    flips = int(min(rng.integers(1, most + 1, size=2)))
    raised = ladder.raise_some(levels, flips, rng)
    ladder.lower_until_it_fits(levels, rng, raised)
    ladder.spend(levels, rng)
    return ladder.choice(levels)


def random_start(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """Return a random allocation [n] near the uniform one.

    All linears start at the first width that exceeds the budget; random ones are lowered until it is met, and the rest
    is spent, as EvoPress starts where no level meets the budget.
    """
    ladder = Ladder(problem)
    totals = ladder.sizes.sum(axis=0)  # [w]: all linears at that level
    levels = np.minimum(np.searchsorted(totals, problem.budget_bytes), ladder.top)
    ladder.lower_until_it_fits(levels, rng, [])
    ladder.spend(levels, rng)
    return ladder.choice(levels)
