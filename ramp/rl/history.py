"""Book-keeping of a learned search that has no agent of its own: PPO, continuous SAC.

Every episode is one evaluation: it is kept, logged, ranked on search text, and the best few meet again on selection
text, as in ramp/agent/agent.py.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from ramp.problem.problem import Allocation, AllocationError, Problem, Run, choose
from ramp.rl.environment import RewardParams
from ramp.rl.policy import Policy

LEAST_EVALS = 3
"""Evaluations below which nothing can be learned: two to learn from, one for the policy's own allocation."""


def episode_row(
    proposer: str, info: dict[str, Any], feasible: bool, best: float | None, learned: dict[str, float]
) -> dict[str, Any]:
    """What a learned search logs of an episode (columns of episodes.csv).

    info: the last one of ``AllocationEnv.step``; best: KL of the best feasible episode so far; learned: what the
    learner said.
    """
    score = info["score"]
    return {
        "proposer": proposer,
        "kl": score.kl,
        "ppl": score.ppl,
        "bytes": info["bytes"],
        "feasible": feasible,
        "best": best,
        **{f"reward_{name}": value for name, value in info["terms"].items()},
        **learned,
    }


class Episodes:
    """What was executed and what came of it.

    Args:
        problem: what is being allocated.
        run: its ``log`` gets one row per episode.
        reward: whose quality loss ranks the episodes.

    Raises:
        AllocationError: the budget cannot be met, or ``run.evals`` is too small to learn from.
    """

    def __init__(self, problem: Problem, run: Run, reward: RewardParams) -> None:
        problem.check_budget()
        if run.evals < LEAST_EVALS:
            raise AllocationError(
                f"a learned search needs at least {LEAST_EVALS} evaluations, {run.evals} were given: raise --evals"
            )
        self.problem, self.run, self.reward = problem, run, reward
        self.choices: list[np.ndarray] = []
        self.returns: list[float] = []
        self.losses: list[float] = []  # what episodes are ranked by; infinite where infeasible
        self.kls: list[float] = []

    def __len__(self) -> int:
        return len(self.choices)

    def add(self, proposer: str, info: dict[str, Any], learned: dict[str, float] | None = None) -> None:
        """Keep and log an episode by its last ``info`` (``AllocationEnv.step``) and what the learner said."""
        score, terms = info["score"], info["terms"]
        loss = score.kl if self.reward.quality == "kl" else score.nll
        self.choices.append(info["choice"])
        self.returns.append(terms["total"])
        self.losses.append(loss if info["feasible"] else float("inf"))
        self.kls.append(score.kl)
        best = self.ranked()
        kl_best = self.kls[best[0]] if best else None
        self.run.log(episode_row(proposer, info, info["feasible"], kl_best, learned or {}))

    def ranked(self) -> list[int]:
        """Feasible episodes with a finite loss, best first, each allocation once."""
        seen: set[bytes] = set()
        found = []
        for row in np.argsort(self.losses, kind="stable"):
            key = self.choices[row].tobytes()
            if np.isfinite(self.losses[row]) and key not in seen:
                seen.add(key)
                found.append(int(row))
        return found

    def scale(self) -> tuple[float, float]:
        """(factor, offset) that bring the returns so far to mean 0 and deviation 1; hopeless episodes do not count."""
        worst = -self.reward.k_q * self.reward.quality_cap
        usual = [value for value in self.returns if value > worst]
        if len(usual) < 2:
            return 1.0, usual[0] if usual else 0.0
        return 1.0 / max(float(np.std(usual)), 1e-6), float(np.mean(usual))

    def policy(self, layers: list[tuple[np.ndarray, np.ndarray]]) -> Policy:
        """Layers from an observation to one logit per width (``ramp.rl.policy``) as the policy that this search
        leaves."""
        about = {
            "model": self.problem.model,
            "method": self.run.method,
            "budgets": [self.problem.budget_bits],
            "seed": self.run.seed,
            "episodes": len(self),
        }
        return Policy(layers, self.problem.widths, about)

    def finish(self, policy_choice: np.ndarray, finalists: int) -> Allocation:
        """The best of ``finalists`` episodes on selection text; without a usable episode, the policy's allocation."""
        candidates = [self.choices[row] for row in self.ranked()[:finalists]]
        if not candidates:
            said = f"no feasible, finite episode in {len(self)}: the policy's greedy allocation"
            return Allocation(policy_choice, "policy", policy_choice, projected=True, notes=said)
        choice, _ = choose(self.problem, candidates, self.reward.quality)
        return Allocation(choice, "best", policy_choice)


class Recorded(gymnasium.Wrapper):
    """An ``AllocationEnv`` that a learner of somebody else drives: each finished episode goes into ``episodes``."""

    def __init__(self, env: gymnasium.Env, episodes: Episodes) -> None:
        super().__init__(env)
        self.episodes, self.proposer = episodes, "actor"

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; after the last one the episode is kept and logged."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated:
            self.episodes.add(self.proposer, info)
        return observation, reward, terminated, truncated, info
