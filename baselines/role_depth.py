"""A table of role and depth, fitted by search: how far the architecture alone explains where bits belong.

Ten numbers, in bits: one per role of a linear (q, k, v, o, gate, up, down), a slope over depth, and a bonus for the
first and for the last block. A linear with the sum s wants s bits more than the average one; at a loss of 4^-bits per
weight that is what params * 4^(s - bits) says, and the greedy allocator spends the budget on it. It knows no weight, no
activation and no proxy. RAMP's claim that sensitivity is architectural stands or falls with how close this comes.
"""

import numpy as np
from pydantic import Field

from ramp.allocators import greedy
from ramp.allocators.archive import Archive
from ramp.files import write_json
from ramp.methods import Allocator, Params
from ramp.models import ROLES
from ramp.problem import Allocation, Problem, Run

NAMES = (*ROLES, "depth", "first", "last")


class RoleDepthParams(Params):
    """Coordinate search over the ten numbers."""

    step: float = Field(default=0.5, gt=0, description="first change of a number, in bits")
    finest: float = Field(default=0.1, gt=0, description="no smaller changes than this, in bits; then a random kick")
    kick: float = Field(default=0.3, gt=0, description="standard deviation of a kick, in bits")
    finalists: int = Field(default=5, gt=0, description="best allocations that are scored on selection text")


def design(problem: Problem) -> np.ndarray:
    """float [n, 10]: what each number counts for in each linear's sum; depth runs from -1 to 1."""
    layers = np.array([linear.layer for linear in problem.linears])
    last = max(1, int(layers.max()))
    roles = [[float(linear.role == role) for role in ROLES] for linear in problem.linears]
    return np.column_stack([roles, 2 * layers / last - 1, layers == 0, layers == layers.max()])


class Table:
    """Tables of ten numbers, their allocations, and the loss of those that were scored."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.problem = archive, archive.problem
        self.design = design(self.problem)
        self.params = np.array([linear.params for linear in self.problem.linears], dtype=np.float64)
        self.numbers: dict[bytes, np.ndarray] = {}  # allocation -> the table that gave it first

    def choice(self, numbers: np.ndarray) -> np.ndarray:
        """The allocation [n] of a table [10]."""
        wanted = self.design @ numbers  # [n], bits above the average
        loss = self.params[:, None] * 4.0 ** (wanted[:, None] - self.problem.rates)
        return greedy.solve(loss, self.problem.bytes, self.problem.budget_bytes)

    def score(self, numbers: np.ndarray, proposer: str) -> float | None:
        """KL of a table's allocation; None where it is a new one and no evaluation is left."""
        choice = self.choice(numbers)
        if not self.archive.left and not self.archive.knows(choice):
            return None
        self.numbers.setdefault(choice.tobytes(), numbers.copy())
        return self.archive.score(choice, proposer)


def descend(table: Table, numbers: np.ndarray, loss: float, params: RoleDepthParams, rng: np.random.Generator) -> float:
    """Coordinate search from ``numbers`` [10], which it changes; the loss that it reached."""
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
    """From a table of zeros; after each descent a kick to the best table, until the evaluations are spent."""
    archive, rng = Archive(problem, run), np.random.default_rng(run.seed)
    table = Table(archive)
    best = np.zeros(len(NAMES))
    start = table.choice(best)
    loss = table.score(best, "start")
    assert loss is not None  # the first evaluation is there
    loss = descend(table, best, loss, params, rng)
    idle = 0
    while archive.left and idle < 20:  # descents in a row that met no new allocation: the family is used up
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
    write_json(run.out_dir / "table.json", {name: float(x) for name, x in zip(NAMES, values, strict=True)})
    return result


METHOD = Allocator(
    name="role_depth",
    title="Role and depth",
    source="a table of ten numbers, coordinate search",
    fold="awq",
    quantizer="gptq",
    learned=False,
    allocate=allocate,
    params=RoleDepthParams,
)
