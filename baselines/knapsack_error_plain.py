"""Exact knapsack on relative weight errors, weighted by parameters alone: no text, no measurement."""

from ramp.allocators import knapsack
from ramp.allocators.archive import reported
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Problem, Run


class KnapsackErrorPlainParams(Params):
    """None."""


def allocate(problem: Problem, params: KnapsackErrorPlainParams, run: Run) -> Allocation:
    """The least sum of params_l t_l^2 under the budget."""
    choice = knapsack.solve(problem.use_proxy(), problem.bytes, problem.budget_bytes)
    return reported(problem, run, choice, "knapsack_error_plain")


METHOD = Allocator(
    name="knapsack_error_plain",
    title="error knapsack",
    source="relative weight error weighted by parameters; arXiv:2411.17525 without its coefficients",
    fold="awq",
    quantizer="gptq",
    learned=False,
    allocate=allocate,
    params=KnapsackErrorPlainParams,
    proxy="error_plain",
)
