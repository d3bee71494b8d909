"""Exact knapsack on relative weight errors times measured noise coefficients: the linearity theorem of HIGGS."""

from ramp.allocators import knapsack
from ramp.allocators.archive import reported
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Problem, Run


class KnapsackErrorParams(Params):
    """None; the noise is set where the sensitivities are made (ramp/sensitivity/weight_error.py)."""


def allocate(problem: Problem, params: KnapsackErrorParams, run: Run) -> Allocation:
    """The least sum of a_l t_l^2 under the budget (the paper's own solver is a knapsack too)."""
    choice = knapsack.solve(problem.use_proxy(), problem.bytes, problem.budget_bytes)
    return reported(problem, run, choice, "knapsack_error")


METHOD = Allocator(
    name="knapsack_error",
    title="HIGGS knapsack",
    source="Malinovskii et al. 2024, arXiv:2411.17525",
    fold="awq",
    quantizer="gptq",
    learned=False,
    allocate=allocate,
    params=KnapsackErrorParams,
    proxy="error",
)
