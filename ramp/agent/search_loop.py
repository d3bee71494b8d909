"""The search loop of RAMP's agent, which the learned methods of baselines/ name; importing it imports no torch."""

from __future__ import annotations

import logging

from ramp.agent.params import RampParams
from ramp.problem.problem import Allocation, Problem, Run

log = logging.getLogger(__name__)


def search(problem: Problem, params: RampParams, run: Run) -> Allocation:
    """Spend ``run.evals`` evaluations and return the allocation; writes ``policy.*`` into ``run.out_dir``."""
    from ramp.agent.agent import Agent

    agent = Agent(problem, params, run)
    saved = run.load()
    if saved is not None:
        agent.load_state_dict(saved)
        log.info("resuming after episode %d", agent.episode)
    while not agent.done:
        agent.play_episode()
        run.save(agent.state_dict())
    return agent.finish()
