"""The search loop of RAMP's agent, which the learned methods of baselines/ name; importing it imports no torch."""

from __future__ import annotations

from ramp.agent.params import RampParams
from ramp.problem.problem import Allocation, Problem, Run


def search(problem: Problem, params: RampParams, run: Run) -> Allocation:
    """Spend ``run.evals`` evaluations and return the allocation; writes ``policy.*`` into ``run.out_dir``."""
    from ramp.agent.agent import Agent

    agent = Agent(problem, params, run)
    while not agent.done:
        agent.play_episode()
    return agent.finish()
