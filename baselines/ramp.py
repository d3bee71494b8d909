"""RAMP with our defaults: the search of ramp/agent/agent.py with every addition on."""

from ramp.agent.params import RampParams
from ramp.methods.kinds import Allocator
from ramp.problem.problem import Allocation, Problem, Run


def allocate(problem: Problem, params: RampParams, run: Run) -> Allocation:
    """Search; torch is imported late, so that reading this file does not need it."""
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
