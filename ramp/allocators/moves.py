"""Random changes of an allocation that stay at the budget: one level up here, one level down there.

The level switch of EvoPress (Sieberling et al. 2024, arXiv:2410.14649) trades a level between two linears of one size.
Linears differ in size here, so bytes are what is traded, as its authors' code does between groups: some linears are
raised, then random ones lowered until the allocation fits, then what is left over is spent. Their code throws away
offspring that lost too many bits; spending the rest keeps every one of them at the budget instead.
"""

from __future__ import annotations

import numpy as np

from ramp.problem.problem import Problem


class Ladder:
    """The widths of every linear in order of size: one level up is the next dearer width."""

    def __init__(self, problem: Problem) -> None:
        self.budget = problem.budget_bytes
        self.order = problem.bytes.argsort(axis=1, kind="stable")  # [n, w]: level -> width index
        self.sizes = np.take_along_axis(problem.bytes, self.order, axis=1)  # int64 [n, w], rising
        self.rank = self.order.argsort(axis=1)  # [n, w]: width index -> level
        self.rows = np.arange(problem.n)
        self.top = problem.bytes.shape[1] - 1

    def levels(self, choice: np.ndarray) -> np.ndarray:
        """Width indices [n] as levels [n]."""
        return self.rank[self.rows, choice]

    def choice(self, levels: np.ndarray) -> np.ndarray:
        """Levels [n] as width indices [n]."""
        return self.order[self.rows, levels]

    def bytes_of(self, levels: np.ndarray) -> int:
        """Summed size of an allocation given by levels."""
        return int(self.sizes[self.rows, levels].sum())

    def steps_up(self, levels: np.ndarray) -> np.ndarray:
        """Bytes that one level up costs each linear [n]; a linear at the top costs more than there is."""
        following = self.sizes[self.rows, np.minimum(levels + 1, self.top)] - self.sizes[self.rows, levels]
        return np.where(levels < self.top, following, np.iinfo(np.int64).max)

    def raise_some(self, levels: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
        """Raise ``count`` random linears by one level, in place, whatever it costs; which ones."""
        raised = []
        for _ in range(count):
            able = np.flatnonzero(levels < self.top)
            if not len(able):
                break
            raised.append(int(rng.choice(able)))
            levels[raised[-1]] += 1
        return raised

    def lower_until_it_fits(self, levels: np.ndarray, rng: np.random.Generator, spare: list[int]) -> None:
        """Lower random linears by one level, in place, until the budget is met; those of ``spare`` only at need."""
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
        """Raise random linears that still fit by one level, in place, until none does."""
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
    """Another allocation [n] at the budget, a few level switches away from ``choice`` [n].

    The number of raised linears is the smaller of two uniform draws from 1 to ``most``, as EvoPress has it.
    """
    ladder = Ladder(problem)
    levels = ladder.levels(choice)
    flips = int(min(rng.integers(1, most + 1, size=2)))
    raised = ladder.raise_some(levels, flips, rng)
    ladder.lower_until_it_fits(levels, rng, raised)
    ladder.spend(levels, rng)
    return ladder.choice(levels)


def random_start(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """A random allocation [n] near the uniform one: every linear at the first width that is too much everywhere, then
    random ones lowered until the budget is met, and the rest spent (EvoPress starts so where no level hits it)."""
    ladder = Ladder(problem)
    totals = ladder.sizes.sum(axis=0)  # [w]: all linears at that level
    levels = np.full(problem.n, int(min(np.searchsorted(totals, problem.budget_bytes), ladder.top)))
    ladder.lower_until_it_fits(levels, rng, [])
    ladder.spend(levels, rng)
    return ladder.choice(levels)
