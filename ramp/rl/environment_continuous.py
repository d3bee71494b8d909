"""The environment of ``ramp.rl.environment`` with a continuous action: one number in [0, 1] per linear.

It stands for a width by HAQ's map (Wang et al. 2019, arXiv:1811.08886, section 3.2), round(b_min - 0.5 + a (b_max -
b_min + 1)): every width owns an equal share of [0, 1]. Written over the menu's indices, which is the same where the
menu has no holes.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from ramp.problem.problem import Problem
from ramp.rl.environment import AllocationEnv, RewardParams


def width_index(action: float, count: int) -> int:
    """Index of the width that ``action`` in [0, 1] stands for on a menu of ``count``; numbers outside are clipped."""
    return int(np.clip(np.floor(action * count), 0, count - 1))


def middle(index: int, count: int) -> float:
    """The middle of the share of [0, 1] that stands for width ``index``."""
    return (index + 0.5) / count


class ContinuousAllocationEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """``AllocationEnv`` behind HAQ's map; ``info["executed_action"]`` is float32 [1] in [0, 1].

    Where the width that was asked for is infeasible, the nearest feasible one is executed and ``executed_action`` is
    the middle of its share: what a replay should hold.

    Args:
        problem, reward, masked, shaping, budget_bytes: as of ``AllocationEnv``.
    """

    def __init__(
        self,
        problem: Problem,
        reward: RewardParams | None = None,
        masked: bool = True,
        shaping: np.ndarray | None = None,
        budget_bytes: int | None = None,
    ) -> None:
        self.discrete = AllocationEnv(problem, reward, masked, shaping, budget_bytes)
        self.observation_space = self.discrete.observation_space
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.count = len(problem.widths)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin with the first linear; nothing here is random."""
        super().reset(seed=seed)
        return self.discrete.reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Give the next linear the width that ``action`` [1] stands for; the last one evaluates and pays."""
        asked = float(np.asarray(action).reshape(-1)[0])
        index = width_index(asked, self.count)
        observation, reward, terminated, truncated, info = self.discrete.step(index)
        executed = int(info["executed_action"])
        stands_for = asked if executed == index else middle(executed, self.count)
        info["executed_action"] = np.clip(np.array([stands_for], dtype=np.float32), 0.0, 1.0)
        return observation, reward, terminated, truncated, info


gymnasium.register("ramp/ContinuousAllocation-v0", f"{__name__}:{ContinuousAllocationEnv.__name__}")
