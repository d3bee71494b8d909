"""Demonstrations that the actor imitates: knapsacks on the additive critic at several budgets, and the incumbent.

They teach the actor through the eleven numbers alone what the critic knows, so that a policy can go to another model
without that model's gradients. They are not put into the replay: their true losses are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ramp.allocators import knapsack
from ramp.problem.problem import Problem
from ramp.rl.environment import AllocationEnv
from ramp.rl.sac import Demonstrations


def knapsack_demonstrations(
    problem: Problem,
    costs: np.ndarray,
    offsets: Sequence[float],
    incumbent: np.ndarray | None,
    env_at: Callable[[int], AllocationEnv],
) -> Demonstrations | None:
    """Return the states and actions along allocations that are worth imitating; None where there is no allocation.

    Args:
        problem: what is being allocated.
        costs: float [n, w], the additive critic's mean.
        offsets: bits per weight around the budget at which knapsacks are solved; budgets that cannot be met are
            left out.
        incumbent: one more allocation [n], at the problem's own budget.
        env_at: gives the masked environment of a budget in bytes.
    """
    budgets = [problem.bytes_at(problem.budget_bits + offset) for offset in offsets]
    least = int(problem.bytes.min(axis=1).sum())
    pairs = [(knapsack.solve(costs, problem.bytes, budget), budget) for budget in budgets if budget >= least]
    if incumbent is not None:
        pairs.append((incumbent, problem.budget_bytes))
    if not pairs:
        return None
    walks = [env_at(budget).follow(choice) for choice, budget in pairs]
    return Demonstrations(*(np.concatenate(parts) for parts in zip(*[walk[:3] for walk in walks], strict=True)))
