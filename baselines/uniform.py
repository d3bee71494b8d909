"""The widest width that fits for all linears alike; what is left of the budget stays unspent."""

import numpy as np

from ramp.allocators.scored_allocations import reported
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Problem, Run


def allocate(problem: Problem, params: Params, run: Run) -> Allocation:
    """Return the last width, in order of bytes, whose total fits."""
    problem.check_budget()
    totals = problem.bytes.sum(axis=0)  # [w]
    fitting = [int(a) for a in totals.argsort(kind="stable") if totals[a] <= problem.budget_bytes]
    choice = np.full(problem.n, fitting[-1], dtype=np.int64) if fitting else problem.bytes.argmin(axis=1)
    return reported(problem, run, choice, "uniform")


METHOD = Allocator(
    title="Uniform",
    source="one width for all linears",
    allocate=allocate,
    params=Params,
)
