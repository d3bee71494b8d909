"""Evolution by level switches, after EvoPress: one parent, a few mutants at equal bytes, the best of all survives.

EvoPress (Sieberling et al. 2024, arXiv:2410.14649) scores many offspring on few tokens and the survivors on more, step
by step. This one scores every candidate on the same tokens, as all methods do; so offspring are few and there is one
step of selection. Its group rule "size" is not needed: bytes are traded.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from ramp.allocators import knapsack
from ramp.allocators.moves import mutate, random_start
from ramp.allocators.scored_allocations import Archive
from ramp.methods.kinds import Allocator, SearchParams
from ramp.problem.problem import Allocation, Problem, Run


class EvolutionParams(SearchParams):
    """Population and start."""

    start: Literal["random", "knapsack"] = Field(
        default="random", description="first parent: the best of some random allocations, or the Fisher knapsack's"
    )
    initial: int = Field(default=8, gt=0, description="random allocations at the start; at most a quarter of all")
    offspring: int = Field(default=4, gt=0, description="mutants of one parent before the next selection")
    switches: int = Field(default=3, gt=0, description="most linears that one mutation raises by a level")


def first_parent(archive: Archive, params: EvolutionParams, rng: np.random.Generator) -> np.ndarray:
    """Return the first parent [n], scored."""
    problem = archive.problem
    if params.start == "knapsack":
        parent = knapsack.solve(problem.use_proxy(), problem.bytes, problem.budget_bytes)
        archive.score(parent, "start")
        return parent
    for _ in range(max(1, min(params.initial, archive.run.evals // 4))):
        archive.score(random_start(problem, rng), "start")
    return archive.finalists(1)[0]


def allocate(problem: Problem, params: EvolutionParams, run: Run) -> Allocation:
    """Select among one parent and its offspring until the evaluations are spent."""
    archive, rng = Archive(problem, run), np.random.default_rng(run.seed)
    parent = first_parent(archive, params, rng)
    start = parent if params.start == "knapsack" else None
    while archive.left:
        brood = []
        for _ in range(min(params.offspring, archive.left)):
            mutant = archive.fresh(lambda parent=parent: mutate(problem, parent, rng, params.switches))
            if mutant is not None:
                brood.append((archive.score(mutant, "evolution"), mutant))
        if not brood:
            break
        loss, best = min(brood, key=lambda pair: pair[0])
        if loss < archive.score(parent, "evolution"):  # known: costs nothing
            parent = best
    return archive.conclude(params.finalists, start)


METHOD = Allocator(
    title="Evolution",
    source="after EvoPress, Sieberling et al. 2024, arXiv:2410.14649",
    allocate=allocate,
    params=EvolutionParams,
)
