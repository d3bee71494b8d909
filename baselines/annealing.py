"""Simulated annealing with level switches at the budget (Kirkpatrick, Gelatt and Vecchi 1983).

The first moves are accepted only downhill, and their mean worsening sets the temperature at which such a move is
accepted with the wanted probability (Ben-Ameur 2004). It then falls geometrically over the evaluations that are left,
so that a run of 300 evaluations is not the beginning of one of 1,000.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from ramp.allocators import knapsack
from ramp.allocators.moves import mutate, random_start
from ramp.allocators.scored_allocations import Archive
from ramp.methods.kinds import Allocator, SearchParams
from ramp.problem.problem import Allocation, Problem, Run


class AnnealingParams(SearchParams):
    """Start and schedule."""

    start: Literal["random", "knapsack"] = Field(
        default="random", description="a random allocation, or the Fisher knapsack's"
    )
    warmup: int = Field(default=10, ge=0, description="first moves, downhill only, that set the temperature's scale")
    accept: float = Field(
        default=0.3, gt=0, lt=1, description="chance of an average worsening at the first temperature"
    )
    end: float = Field(default=0.01, gt=0, le=1, description="last temperature as a share of the first")
    switches: int = Field(default=2, gt=0, description="most linears that one move raises by a level")


class Schedule:
    """Temperatures in nats of KL over ``moves`` moves."""

    def __init__(self, params: AnnealingParams, moves: int) -> None:
        self.params, self.moves = params, moves
        self.warmup = min(params.warmup, moves // 4)
        self.worsenings: list[float] = []

    def temperature(self, move: int) -> float:
        """Return the temperature of a move, counted from 0; 0 during the warm-up and where nothing has worsened yet."""
        if move < self.warmup or not self.worsenings:
            return 0.0
        first = float(np.mean(self.worsenings)) / -np.log(self.params.accept)
        done = (move - self.warmup) / max(1, self.moves - self.warmup - 1)
        return first * self.params.end**done

    def observe(self, move: int, difference: float) -> None:
        """Learn the scale from the warm-up's moves, or from the first that worsens where there is none."""
        if np.isfinite(difference) and difference > 0 and (move < self.warmup or not self.worsenings):
            self.worsenings.append(difference)


def allocate(problem: Problem, params: AnnealingParams, run: Run) -> Allocation:
    """Make one walk; the best of its allocations are scored on selection text."""
    archive, rng = Archive(problem, run), np.random.default_rng(run.seed)
    warm = params.start == "knapsack"
    start = knapsack.solve(problem.use_proxy(), problem.bytes, problem.budget_bytes) if warm else None
    current = random_start(problem, rng) if start is None else start
    loss = archive.score(current, "start")
    schedule = Schedule(params, run.evals - 1)
    for move in range(run.evals - 1):
        step = archive.fresh(lambda current=current: mutate(problem, current, rng, params.switches))
        if step is None:
            break
        found = archive.score(step, "annealing")
        temperature = schedule.temperature(move)
        schedule.observe(move, found - loss)
        chance = np.exp(-(found - loss) / temperature) if temperature > 0 and found > loss else float(found <= loss)
        if rng.random() < chance:
            current, loss = step, found
    return archive.conclude(params.finalists, start)


METHOD = Allocator(
    title="Annealing",
    source="Kirkpatrick, Gelatt and Vecchi 1983",
    allocate=allocate,
    params=AnnealingParams,
)
