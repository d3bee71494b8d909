"""Random feasible allocations at the exact budget, the best chosen on selection text.

The name random.py would hide Python's own module.
"""

import numpy as np

from ramp.allocators.greedy import repair
from ramp.methods.kinds import Allocator, SearchParams
from ramp.problem.problem import Allocation, Problem, Run, choose


def draw(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """Return uniform widths [n], brought to the budget by changes in random order."""
    choice = rng.integers(0, len(problem.widths), problem.n)
    prices = rng.random(problem.bytes.shape) * problem.bytes
    return repair(choice, prices, problem.bytes, problem.budget_bytes, always=True)


def allocate(problem: Problem, params: SearchParams, run: Run) -> Allocation:
    """Evaluate ``run.evals`` draws."""
    problem.check_budget()
    rng = np.random.default_rng(run.seed)
    tried, losses = [], []
    for _ in range(run.evals):
        tried.append(draw(problem, rng))
        score = problem.evaluate(tried[-1])
        losses.append(score.kl)
        best = min(losses)
        run.log(
            {"proposer": "random", "kl": score.kl, "ppl": score.ppl, "bytes": problem.bytes_of(tried[-1]), "best": best}
        )
    order = np.argsort(losses, kind="stable")[: params.finalists]
    choice, _ = choose(problem, [tried[row] for row in order])
    return Allocation(choice, "best")


METHOD = Allocator(
    title="Random search",
    source="uniform draws, repaired to the budget",
    allocate=allocate,
    params=SearchParams,
)
