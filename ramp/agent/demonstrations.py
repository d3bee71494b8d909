"""What the actor imitates: knapsacks on the additive critic at several budgets, and the incumbent.

They teach the actor what the critic knows through the eleven numbers alone, which is what lets a policy go to
another model without that model's gradients. They are not put into the replay: their true losses are not known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ramp.problem.problem import Problem
from ramp.rl.environment import AllocationEnv
from ramp.rl.sac import Demonstrations
from ramp.rl.surrogate import AdditiveSurrogate


def knapsacks(
    problem: Problem, surrogate: AdditiveSurrogate, offsets: Sequence[float]
) -> tuple[list[np.ndarray], list[int]]:
    """The mean critic's allocations at the budget plus each offset in bits, where that can be met; and their bytes."""
    theta = surrogate.mean()
    choices, budgets = [], []
    for offset in offsets:
        budget = problem.budget_bytes_at(problem.budget_bits + offset)
        if budget >= int(problem.bytes.min(axis=1).sum()):
            choices.append(surrogate.solve(theta, problem.bytes, budget))
            budgets.append(budget)
    return choices, budgets


def demonstrations(
    choices: np.ndarray, budgets: np.ndarray, env_at: Callable[[int], AllocationEnv]
) -> Demonstrations | None:
    """States on the way of each allocation [m, n] through a masked environment of its budget [m]; None for none."""
    walks = [
        env_at(int(budget)).walk(lambda index, observation, mask, choice=choice: choice[index])
        for choice, budget in zip(choices, budgets, strict=True)
    ]
    if not walks:
        return None
    return Demonstrations(*(np.concatenate(parts) for parts in zip(*[walk[:3] for walk in walks], strict=True)))
