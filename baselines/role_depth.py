"""A table of role and depth, fitted by search: how far the architecture alone determines the allocation.

The ten numbers and their allocation are in ramp/rl/role_depth.py: they use no weight, no activation and no proxy. How
close this comes, on the model that it was fitted on and as a transferred policy on others, tests RAMP's claim that
sensitivity is architectural.
"""

import numpy as np
from pydantic import Field

from ramp.allocators.scored_allocations import Archive
from ramp.methods.kinds import Allocator, SearchParams
from ramp.problem.problem import Allocation, Problem, Run
from ramp.rl.role_depth import NAMES, TablePolicy, table_choice


class RoleDepthParams(SearchParams):
    """Coordinate search over the ten numbers."""

    step: float = Field(default=0.5, gt=0, description="first change of a number, in bits")
    finest: float = Field(default=0.1, gt=0, description="no smaller changes than this, in bits; then a random kick")
    kick: float = Field(default=0.3, gt=0, description="standard deviation of a kick, in bits")


class Table:
    """Tables of ten numbers, their allocations, and the loss of those that were scored."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.problem = archive, archive.problem
        self.numbers: dict[bytes, np.ndarray] = {}  # allocation -> the table that gave it first

    def choice(self, numbers: np.ndarray) -> np.ndarray:
        """Return the allocation [n] of a table [10]."""
        return table_choice(numbers, self.problem, self.problem.budget_bytes)

    def score(self, numbers: np.ndarray, proposer: str) -> float | None:
        """Return the KL of a table's allocation; None where it is new and no evaluation is left."""
        choice = self.choice(numbers)
        if not self.archive.left and not self.archive.knows(choice):
            return None
        self.numbers.setdefault(choice.tobytes(), numbers.copy())
        return self.archive.score(choice, proposer)


def descend(table: Table, numbers: np.ndarray, loss: float, params: RoleDepthParams, rng: np.random.Generator) -> float:
    """Search along coordinates from ``numbers`` [10], in place; return the loss that was reached."""
    step = params.step
    while step >= params.finest:
        improved = False
        for k in rng.permutation(len(numbers)):
            for change in rng.permutation([step, -step]):
                trial = numbers.copy()
                trial[k] += change
                found = table.score(trial, "role_depth")
                if found is None:
                    return loss
                if found < loss:
                    numbers[k], loss, improved = trial[k], found, True
                    break
        if not improved:
            step /= 2
    return loss


def allocate(problem: Problem, params: RoleDepthParams, run: Run) -> Allocation:
    """Descend from a table of zeros, then from random kicks to the best table, until the evaluations are spent."""
    archive, rng = Archive(problem, run), np.random.default_rng(run.seed)
    table = Table(archive)
    best = np.zeros(len(NAMES))
    start = table.choice(best)
    loss = table.score(best, "start")
    assert loss is not None  # the first evaluation is there
    loss = descend(table, best, loss, params, rng)
    idle = 0
    while archive.left and idle < 20:  # descents in a row without a new allocation
        before = archive.left
        numbers = best + params.kick * rng.normal(size=len(NAMES))
        found = table.score(numbers, "kick")
        if found is None:
            break
        found = descend(table, numbers, found, params, rng)
        if found < loss:
            best, loss = numbers, found
        idle = idle + 1 if archive.left == before else 0
    result = archive.conclude(params.finalists, start)
    values = table.numbers[np.ascontiguousarray(result.choice, dtype=np.int64).tobytes()]
    about = {"model": problem.model, "method": run.method, "budgets": [problem.budget_bits], "seed": run.seed}
    TablePolicy(values, problem.widths, {**about, "episodes": len(archive.choices)}).save(run.out_dir)
    return result


METHOD = Allocator(
    title="Role and depth",
    source="a table of ten numbers, coordinate search",
    learned=True,  # the table is what a transfer carries over
    allocate=allocate,
    params=RoleDepthParams,
)
