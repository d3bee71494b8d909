"""Exact knapsack on the additive Fisher proxy: no search; one evaluation, to say what it reaches."""

from ramp.allocators import knapsack
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Problem, Run


class KnapsackParams(Params):
    """None."""


def allocate(problem: Problem, params: KnapsackParams, run: Run) -> Allocation:
    """The optimum of the proxy under the budget; its score is logged and decides nothing."""
    choice = knapsack.solve(problem.use_proxy(), problem.bytes, problem.budget_bytes)
    score = problem.evaluate(choice)
    run.log(
        {"proposer": "knapsack", "kl": score.kl, "ppl": score.ppl, "bytes": problem.bytes_of(choice), "best": score.kl}
    )
    return Allocation(choice, "proxy", start_choice=choice)


METHOD = Allocator(
    name="knapsack",
    title="Fisher knapsack",
    source="additive Fisher error sum (ramp/sensitivity/__main__.py), multiple-choice knapsack",
    fold="awq",
    quantizer="gptq",
    learned=False,
    allocate=allocate,
    params=KnapsackParams,
)
