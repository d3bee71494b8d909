"""Greedy by measured KL per byte: from the cheapest allocation, always the change that gains most for its bytes.

Gains are measured before the first step, each linear raised alone in the cheapest allocation, as exllamav3's optimizer
measures them (measure_model.py and optimize_model.py of turboderp-org/exllamav3). It also bends large gains down by a
power before it compares them; here they are compared as measured.
"""

from ramp.allocators import greedy
from ramp.allocators.scored_allocations import reported
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Problem, Run


def allocate(problem: Problem, params: Params, run: Run) -> Allocation:
    """Take steps until no change that gains fits."""
    choice = greedy.solve(problem.use_proxy(), problem.bytes, problem.budget_bytes)
    return reported(problem, run, choice, "greedy_kl")


METHOD = Allocator(
    title="greedy by measured KL",
    source="after the optimizer of turboderp-org/exllamav3",
    allocate=allocate,
    params=Params,
    proxy="kl_cheapest",
)
