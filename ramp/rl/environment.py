"""Bit allocation as gymnasium environments: one step per linear in forward order, one true evaluation at the end.

Observation: the 11 numbers of ``ramp.problem.features``. Action of ``AllocationEnv``: index of a width. With ``masked``
an action after which even the cheapest completion exceeds the budget is infeasible (``info["action_mask"]``), and a
step that asks for one executes the nearest feasible width instead (``info["executed_action"]``). The reward is paid at
the last step (``ramp.rl.reward``).

Action of ``ContinuousAllocationEnv``: one number in [0, 1], which stands for a width by HAQ's map (Wang et al. 2019,
arXiv:1811.08886, section 3.2), round(b_min - 0.5 + a (b_max - b_min + 1)): every width owns an equal share of [0, 1].
Here it goes over the indices of the menu, which is the same where the menu has no holes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from ramp.problem.features import PREVIOUS_BITS, REMAINING_BUDGET, SIZE, STATIC, normalise
from ramp.problem.problem import Problem
from ramp.rl.reward import RewardParams, reward_terms

OBSERVATION_LIMIT = 10.0
"""Observations are clipped to +- this, so that one extreme feature cannot dominate the networks."""


class Steps(NamedTuple):
    """Observations, masks, actions and rewards of one pass over the n linears."""

    observations: np.ndarray  # float32 [n, 11]
    masks: np.ndarray  # bool [n, w]
    actions: np.ndarray  # int64 [n], as executed
    rewards: np.ndarray  # float32 [n]; zeros where nothing was evaluated


class AllocationEnv(gymnasium.Env[np.ndarray, Any]):
    """Environment with the index of a width as its action.

    Args:
        problem: what to allocate; every finished episode costs one ``problem.evaluate``.
        reward: weights of the reward.
        masked: whether infeasible actions are masked; without it, an allocation may end above the budget.
        shaping: [n, w] costs to shape the reward with (``ramp.rl.reward.shaping_costs``), in nats, or None.
        budget_bytes: another budget than the problem's.
        feature_mask: float32 [11], 0 for numbers that the policy must not see (``ramp.problem.features``).
    """

    def __init__(
        self,
        problem: Problem,
        reward: RewardParams | None = None,
        masked: bool = True,
        shaping: np.ndarray | None = None,
        budget_bytes: int | None = None,
        feature_mask: np.ndarray | None = None,
    ) -> None:
        self.problem, self.reward, self.masked = problem, reward or RewardParams(), masked
        self.feature_mask = np.ones(SIZE, dtype=np.float32) if feature_mask is None else feature_mask
        self.rates = problem.rates.tolist()
        self.budget = int(problem.budget_bytes if budget_bytes is None else budget_bytes)
        least, most = problem.bytes.min(axis=1), problem.bytes.max(axis=1)
        self.cheapest, self.largest = (  # completions of linears i..n-1, [n + 1]
            np.append(np.cumsum(ends[::-1])[::-1], 0) for ends in (least, most)
        )
        if masked:
            problem.check_budget()
        self.shaping = None if shaping is None else shaping * self.reward.k_q
        self.static = np.zeros((problem.n, SIZE), dtype=np.float32)
        self.static[:, STATIC] = problem.features
        self.observation_space = gymnasium.spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, (SIZE,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(problem.widths))
        self._start()

    def _start(self) -> None:
        self.index, self.left, self.potential = 0, self.budget, 0.0
        self.choice = np.zeros(self.problem.n, dtype=np.int64)

    def observe(self) -> np.ndarray:
        """Return float32 [11] of the next linear; zeros after the last."""
        if self.index >= self.problem.n:
            return np.zeros(SIZE, dtype=np.float32)
        seen = self.static[self.index].copy()
        previous = self.rates[self.choice[self.index - 1]] / self.rates[-1] if self.index else 0.0
        seen[PREVIOUS_BITS] = normalise(PREVIOUS_BITS, previous)
        seen[REMAINING_BUDGET] = normalise(REMAINING_BUDGET, self._remaining())
        return np.clip(seen, -OBSERVATION_LIMIT, OBSERVATION_LIMIT) * self.feature_mask

    def action_mask(self) -> np.ndarray:
        """Return bool [w] of the next linear; all true without masking and after the last."""
        if not self.masked or self.index >= self.problem.n:
            return np.ones(len(self.problem.widths), dtype=bool)
        return self.problem.bytes[self.index] <= self.left - self.cheapest[self.index + 1]

    def _remaining(self) -> float:
        """Return feature 9: 0 where only the cheapest completion fits, 1 where the largest does."""
        cheapest = self.cheapest[self.index]
        span = self.largest[self.index] - cheapest
        return float(self.left - cheapest) / float(span) if span > 0 else 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin with the first linear; nothing is random."""
        super().reset(seed=seed)
        self._start()
        return self.observe(), {"action_mask": self.action_mask()}

    def step(self, action: np.int64 | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Give the next linear its width; the last one evaluates the allocation and pays."""
        executed = self._commit(int(action))
        info: dict[str, Any] = {"executed_action": executed, "action_mask": self.action_mask()}
        done = self.index == self.problem.n
        reward = 0.0
        if done:
            score = self.problem.evaluate(self.choice.copy())
            size_bytes = self.budget - self.left
            terms = reward_terms(score, size_bytes, self.budget, self.reward, self.problem.nll_float)
            reward = terms["total"]
            info |= {
                "choice": self.choice.copy(),
                "score": score,
                "bytes": size_bytes,
                "terms": terms,
                "feasible": self.left >= 0,
            }
        if self.shaping is not None:
            # F = potential(s') - potential(s) with gamma = 1 and potential 0 at the end: the return stays as it is
            potential = 0.0 if done else self.potential - float(self.shaping[self.index - 1, executed])
            reward += potential - self.potential
            self.potential = potential
        return self.observe(), float(reward), done, False, info

    def _commit(self, action: int) -> int:
        """Execute ``action``, or the nearest feasible width where it is masked; return what was executed."""
        mask = self.action_mask()
        if not mask[action]:
            feasible = np.flatnonzero(mask)
            action = int(feasible[np.abs(feasible - action).argmin()])
        self.left -= int(self.problem.bytes[self.index, action])
        self.choice[self.index] = action
        self.index += 1
        return action

    def walk(self, act: Callable[[int, np.ndarray, np.ndarray], int]) -> Steps:
        """Go through all linears without evaluating; ``act`` maps (index, observation [11], mask [w]) to an action."""
        self._start()
        observations, masks = [], []
        for index in range(self.problem.n):
            observations.append(self.observe())
            masks.append(self.action_mask())
            self._commit(int(act(index, observations[-1], masks[-1])))
        actions = self.choice.copy()
        self._start()
        return Steps(np.array(observations), np.array(masks), actions, np.zeros(len(actions), dtype=np.float32))

    def follow(self, choice: np.ndarray) -> Steps:
        """Go along an allocation [n] without evaluating it."""
        return self.walk(lambda index, observation, mask: int(choice[index]))

    def play(self, choice: np.ndarray) -> tuple[Steps, dict[str, Any]]:
        """Execute an allocation [n] step by step, evaluate it, and return its steps with the last ``info``."""
        observation, info = self.reset()
        seen, masks, actions, rewards = [], [], [], []
        for action in choice:
            seen.append(observation)
            masks.append(info["action_mask"])
            observation, reward, _, _, info = AllocationEnv.step(self, int(action))  # indices, in a subclass too
            actions.append(info["executed_action"])
            rewards.append(reward)
        return Steps(np.array(seen), np.array(masks), np.array(actions), np.array(rewards, dtype=np.float32)), info


def width_index(action: float, count: int) -> int:
    """Return the index of the width that ``action`` in [0, 1] stands for on a menu of ``count``; others are clipped."""
    return int(np.clip(np.floor(action * count), 0, count - 1))


def middle(index: int, count: int) -> float:
    """Return the middle of the share of [0, 1] that stands for width ``index``."""
    return (index + 0.5) / count


class ContinuousAllocationEnv(AllocationEnv):
    """Environment with one number in [0, 1] as its action; ``info["executed_action"]`` is float32 [1].

    Where the width that was asked for is infeasible, the nearest feasible one is executed and ``executed_action`` is
    the middle of its share, which is what a replay should hold.

    Args:
        problem, options: as of ``AllocationEnv``.
    """

    def __init__(self, problem: Problem, *options: Any, **named: Any) -> None:
        super().__init__(problem, *options, **named)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Give the next linear the width that ``action`` [1] stands for; the last one evaluates and pays."""
        count = len(self.problem.widths)
        asked = float(np.asarray(action).reshape(-1)[0])
        index = width_index(asked, count)
        observation, reward, terminated, truncated, info = super().step(index)
        executed = info["executed_action"]
        stands_for = asked if executed == index else middle(executed, count)
        info["executed_action"] = np.clip(np.array([stands_for], dtype=np.float32), 0.0, 1.0)
        return observation, reward, terminated, truncated, info


gymnasium.register("ramp/Allocation-v0", f"{__name__}:{AllocationEnv.__name__}")
gymnasium.register("ramp/ContinuousAllocation-v0", f"{__name__}:{ContinuousAllocationEnv.__name__}")
