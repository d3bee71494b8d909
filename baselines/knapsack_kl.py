"""Exact knapsack on measured single-linear KL: each linear alone at each width, the others float."""

from ramp.allocators import knapsack
from ramp.allocators.archive import reported
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Problem, Run


class KnapsackKlParams(Params):
    """None."""


def allocate(problem: Problem, params: KnapsackKlParams, run: Run) -> Allocation:
    """The least sum of measured losses under the budget; interactions are what it cannot see."""
    choice = knapsack.solve(problem.use_proxy(), problem.bytes, problem.budget_bytes)
    return reported(problem, run, choice, "knapsack_kl")


METHOD = Allocator(
    name="knapsack_kl",
    title="measured-KL knapsack",
    source="single-linear KL (ramp/sensitivity/measured_kl.py), multiple-choice knapsack",
    fold="awq",
    quantizer="gptq",
    learned=False,
    allocate=allocate,
    params=KnapsackKlParams,
    proxy="kl",
)
