"""The history of a learned search: what was executed, what it scored, and the rows of episodes.csv.

RAMP's agent (ramp/agent/agent.py), continuous SAC and PPO keep their episodes here. Every episode is one evaluation;
episodes are ranked on search text, and the best few are scored again on selection text.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ramp.problem.problem import Allocation, AllocationError, Problem, Run, choose
from ramp.rl.policy import Policy
from ramp.rl.reward import RewardParams

LEAST_EVALS = 3
"""Evaluations below which nothing can be learned: two to learn from, one for the policy's own allocation."""


class History:
    """Arrays with one entry per episode.

    Args:
        problem: what is being allocated.
        run: its ``log`` gets one row per episode.
        reward: its quality loss ranks the episodes.

    Raises:
        AllocationError: the budget cannot be met, or ``run.evals`` is too small to learn from.
    """

    def __init__(self, problem: Problem, run: Run, reward: RewardParams) -> None:
        if run.evals < LEAST_EVALS:
            raise AllocationError(
                f"a learned search needs at least {LEAST_EVALS} evaluations, {run.evals} were given: raise --evals"
            )
        problem.check_budget()
        self.problem, self.run, self.reward = problem, run, reward
        self.choices = np.zeros((0, problem.n), dtype=np.int64)
        self.returns = np.zeros(0)
        self.capped = np.zeros(0, dtype=bool)  # the reward's quality loss is at its cap
        self.losses = np.zeros(0)  # KL, or NLL where the reward is the perplexity's
        self.kls = np.zeros(0)
        self.feasible = np.zeros(0, dtype=bool)

    def __len__(self) -> int:
        return len(self.returns)

    def add(self, info: dict[str, Any], feasible: bool, comparable: bool = True) -> None:
        """Keep an episode by its last ``info`` (``AllocationEnv.step``); one that is not ``comparable`` has no rank."""
        score = info["score"]
        self.choices = np.vstack([self.choices, self.problem.distinct(info["choice"])])
        self.returns = np.append(self.returns, info["terms"]["total"])
        capped = info["terms"]["quality"] <= -self.reward.k_q * self.reward.quality_cap
        self.capped = np.append(self.capped, capped)
        loss = score.kl if self.reward.quality == "kl" else score.nll
        self.losses = np.append(self.losses, loss if comparable else np.inf)
        self.kls = np.append(self.kls, score.kl)
        self.feasible = np.append(self.feasible, feasible)

    def log(self, proposer: str, info: dict[str, Any], stats: dict[str, float]) -> None:
        """Log the last episode by its last ``info``; ``stats`` are the learner's last losses."""
        ranked = self.ranked()
        self.run.log(
            {
                "proposer": proposer,
                "kl": info["score"].kl,
                "ppl": info["score"].ppl,
                "bytes": info["bytes"],
                "feasible": bool(self.feasible[-1]),
                "best": self.kls[ranked[0]] if len(ranked) else None,
                **{f"reward_{name}": value for name, value in info["terms"].items()},
                **stats,
            }
        )

    def knows(self, choice: np.ndarray) -> bool:
        """Return whether this allocation [n] was evaluated before."""
        return bool((self.choices == self.problem.distinct(choice)).all(axis=1).any())

    def ranked(self) -> np.ndarray:
        """Return the episodes with a feasible, finite outcome, best first, each allocation once."""
        usable = np.flatnonzero(self.feasible & np.isfinite(self.losses))
        usable = usable[np.argsort(self.losses[usable], kind="stable")]
        _, first = np.unique(self.choices[usable], axis=0, return_index=True)
        return usable[np.sort(first)]

    def best(self) -> np.ndarray | None:
        """Return the best feasible allocation on search text, or None."""
        ranked = self.ranked()
        return self.choices[ranked[0]] if len(ranked) else None

    def finalists(self, count: int, start: np.ndarray | None = None) -> list[np.ndarray]:
        """Return the ``count`` best allocations, each once; the warm start comes first where there is one."""
        found = [self.choices[row] for row in self.ranked()[:count]]
        if start is None:
            return found
        return [start, *(choice for choice in found if not np.array_equal(choice, start))]

    def scale(self, episodes: int) -> tuple[float, float]:
        """Return (factor, offset) that bring the first returns to mean 0 and deviation 1; capped ones do not count."""
        usual = self.returns[:episodes][~self.capped[:episodes]]
        if len(usual) < 2:
            return 1.0, float(usual.sum())
        return 1.0 / max(float(np.std(usual)), 1e-6), float(np.mean(usual))

    def policy(self, layers: list[tuple[np.ndarray, np.ndarray]]) -> Policy:
        """Return layers from an observation to one logit per width (``ramp.rl.policy``) as this search's policy."""
        about = {
            "model": self.problem.model,
            "method": self.run.method,
            "budgets": [self.problem.budget_bits],
            "seed": self.run.seed,
            "episodes": len(self),
        }
        return Policy(layers, self.problem.widths, about)

    def finish(self, policy_choice: np.ndarray, finalists: int) -> Allocation:
        """Return the best finalist on selection text, or the policy's allocation where no episode was usable."""
        candidates = self.finalists(finalists)
        if not candidates:
            note = f"no feasible, finite episode in {len(self)}: the policy's greedy allocation"
            return Allocation(policy_choice, "policy", policy_choice, projected=True, notes=note)
        choice, _ = choose(self.problem, candidates, self.reward.quality)
        return Allocation(choice, "best", policy_choice)
