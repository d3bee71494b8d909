"""RAMP, our best default: the search of ramp/agent/agent.py with every switch as it stands there."""

from ramp.agent.params import RampParams
from ramp.methods.kinds import Allocator
from ramp.problem.problem import Allocation, Problem, Run


def allocate(problem: Problem, params: RampParams, run: Run) -> Allocation:
    """The search; its module stands on torch, which a mere look at this file should not import."""
    from ramp.agent.agent import search

    return search(problem, params, run)


METHOD = Allocator(
    name="ramp",
    title="RAMP (ours)",
    source="after arXiv:2603.17891, warm-started and masked",
    fold="awq",
    quantizer="gptq",
    learned=True,
    allocate=allocate,
    params=RampParams,
)
