"""Exact knapsack on additive sensitivities: no search. Its variants differ in the sensitivities alone."""

from ramp.allocators import knapsack
from ramp.allocators.scored_allocations import reported
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Problem, Run


def allocate(problem: Problem, params: Params, run: Run) -> Allocation:
    """Return the least sum of sensitivities under the budget; its one score is logged and decides nothing."""
    choice = knapsack.solve(problem.use_proxy(), problem.bytes, problem.budget_bytes)
    return reported(problem, run, choice, run.method)


METHOD = Allocator(
    title="Fisher knapsack",
    source="additive Fisher error sum (ramp/sensitivity/__main__.py), multiple-choice knapsack",
    allocate=allocate,
    params=Params,
)

VARIANTS = {
    "knapsack_error": {  # the linearity theorem of HIGGS; its noise is set in ramp/sensitivity/weight_error.py
        "title": "HIGGS knapsack",
        "source": "Malinovskii et al. 2024, arXiv:2411.17525",
        "proxy": "error",
    },
    "knapsack_error_plain": {  # no text, no measurement
        "title": "error knapsack",
        "source": "relative weight error weighted by parameters; arXiv:2411.17525 without its coefficients",
        "proxy": "error_plain",
    },
    "knapsack_kl": {  # each linear alone at each width, the others float: interactions are not in it
        "title": "measured-KL knapsack",
        "source": "single-linear KL (ramp/sensitivity/measured_kl.py), multiple-choice knapsack",
        "proxy": "kl",
    },
}
