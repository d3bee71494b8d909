"""Bit allocation as a gymnasium environment: one step per linear in forward order, one true evaluation at the end.

Observation: the 11 numbers of ``ramp.problem.features``. Action: index of a width. With ``masked`` an action after
which the cheapest completion would overshoot the budget is infeasible (``info["action_mask"]``), and a step that
asks for one executes the nearest feasible width instead (``info["executed_action"]``).

Reward of an allocation, paid at the last step (quality first, asymmetric, with a cliff at the budget):

    r = - k_q * max(0, quality loss) + k_b * max(0, 1 - bytes / budget)
        - k_o * max(0, bytes / budget - 1) - k_c * [bytes > budget]

A negative k_b is a penalty on bytes that are left over; k_b = -k_o punishes both sides of the budget alike.

The quality loss is the mean KL to the float model, or log(ppl / ppl_float), in nats. The learner scales returns to
spread by about 1 (``ramp.agent.agent``), so only the terms' proportions matter here.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ramp.allocators.knapsack import multiplier
from ramp.problem.features import PREVIOUS_BITS, REMAINING_BUDGET, SIZE, STATIC, normalise
from ramp.problem.problem import Problem
from ramp.scoring.score import Score

OBSERVATION_LIMIT = 10.0
"""Observations are clipped to +- this, so that one odd channel cannot throw the networks."""


class RewardParams(BaseModel):
    """Weights of the reward's terms; the paper's own values are not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quality: Literal["kl", "log_ppl"] = Field(
        default="kl", description="quality loss: mean KL in nats, or log(ppl / ppl_float)"
    )
    quality_cap: float = Field(
        default=20.0, gt=0, description="largest quality loss, in nats; also that of an evaluation that is not finite"
    )
    k_q: float = Field(default=10.0, gt=0, description="weight of the quality loss")
    k_b: float = Field(
        default=1.0,
        allow_inf_nan=False,
        description="bonus for bytes below the budget, as a fraction of it; smaller than k_q. Negative: a penalty on "
        "them, with -k_o as large as that on bytes above the budget",
    )
    k_o: float = Field(default=0.0, ge=0, description="penalty on bytes above the budget, as a fraction of it")
    k_c: float = Field(default=5.0, ge=0, description="cliff: penalty for being above the budget at all")

    @model_validator(mode="after")
    def _quality_first(self) -> RewardParams:
        if self.k_b >= self.k_q:
            raise ValueError(f"k_b = {self.k_b} must stay below k_q = {self.k_q}: the reward puts quality first")
        return self


def reward_terms(
    score: Score, size_bytes: int, budget_bytes: int, params: RewardParams, nll_float: float
) -> dict[str, float]:
    """The terms of the reward and their sum: keys ``quality, saving, overshoot, cliff, total``."""
    loss = score.kl if params.quality == "kl" else score.nll - nll_float
    loss = min(max(0.0, loss), params.quality_cap) if np.isfinite(loss) else params.quality_cap
    share = size_bytes / budget_bytes
    terms = {
        "quality": -params.k_q * loss,
        "saving": params.k_b * max(0.0, 1.0 - share),
        "overshoot": -params.k_o * max(0.0, share - 1.0),
        "cliff": -params.k_c if size_bytes > budget_bytes else 0.0,
    }
    terms = {name: value + 0.0 for name, value in terms.items()}  # no -0.0 in the logs
    return {**terms, "total": sum(terms.values())}


class Steps(NamedTuple):
    """What one pass over the n linears saw and did."""

    observations: np.ndarray  # float32 [n, 11]
    masks: np.ndarray  # bool [n, w]
    actions: np.ndarray  # int64 [n], as executed
    rewards: np.ndarray  # float32 [n]; zeros where nothing was evaluated


class Bytes:
    """Exact byte book-keeping of a pass: cheapest and dearest completion after each linear."""

    def __init__(self, sizes: np.ndarray, budget_bytes: int) -> None:
        self.sizes, self.budget = sizes, int(budget_bytes)
        self.cheapest = np.append(np.cumsum(sizes.min(axis=1)[::-1])[::-1], 0)  # [n + 1], of linears i..n-1
        self.dearest = np.append(np.cumsum(sizes.max(axis=1)[::-1])[::-1], 0)

    def mask(self, index: int, left: int) -> np.ndarray:
        """bool [w]: widths of linear ``index`` after which the rest still fits into the ``left`` bytes."""
        return self.sizes[index] <= left - self.cheapest[index + 1]

    def remaining(self, index: int, left: int) -> float:
        """Feature 9: 0 where only the cheapest completion fits, 1 where the dearest does."""
        span = self.dearest[index] - self.cheapest[index]
        return float(left - self.cheapest[index]) / float(span) if span > 0 else 0.0


def shaping_costs(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Reduced costs [n, w] >= 0 of the additive proxy under the budget's Lagrange multiplier.

    cost + price * bytes, less the linear's own minimum: zero for what the relaxed knapsack would take. Their
    running sum is minus the potential; potentials leave the optimal policy as it is (Ng, Harada and Russell 1999).
    """
    priced = costs + multiplier(costs, sizes, budget_bytes) * sizes
    return priced - priced.min(axis=1, keepdims=True)


class AllocationEnv(gymnasium.Env[np.ndarray, np.int64]):
    """See the module's docstring.

    Args:
        problem: what to allocate; every finished episode costs one ``problem.evaluate``.
        reward: weights of the reward.
        masked: whether infeasible actions are masked; without it, an allocation may end above the budget.
        shaping: [n, w] costs to shape the reward with (``shaping_costs``), in nats, or None.
    """

    def __init__(
        self,
        problem: Problem,
        reward: RewardParams | None = None,
        masked: bool = True,
        shaping: np.ndarray | None = None,
        budget_bytes: int | None = None,
    ) -> None:
        self.problem, self.reward, self.masked = problem, reward or RewardParams(), masked
        self.rates = problem.rates.tolist()
        self.bytes = Bytes(problem.bytes, problem.budget_bytes if budget_bytes is None else budget_bytes)
        if masked:
            problem.check_budget()
        self.shaping = None if shaping is None else shaping * self.reward.k_q
        self.static = np.zeros((problem.n, SIZE), dtype=np.float32)
        self.static[:, STATIC] = problem.features
        self.observation_space = gymnasium.spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, (SIZE,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(problem.widths))
        self._start()

    def _start(self) -> None:
        self.index, self.left, self.potential = 0, self.bytes.budget, 0.0
        self.choice = np.zeros(self.problem.n, dtype=np.int64)

    def observe(self) -> np.ndarray:
        """float32 [11] of the linear that is next; zeros after the last."""
        if self.index >= self.problem.n:
            return np.zeros(SIZE, dtype=np.float32)
        seen = self.static[self.index].copy()
        previous = self.rates[self.choice[self.index - 1]] / self.rates[-1] if self.index else 0.0
        seen[PREVIOUS_BITS] = normalise(PREVIOUS_BITS, previous)
        seen[REMAINING_BUDGET] = normalise(REMAINING_BUDGET, self.bytes.remaining(self.index, self.left))
        return np.clip(seen, -OBSERVATION_LIMIT, OBSERVATION_LIMIT)

    def action_mask(self) -> np.ndarray:
        """bool [w] of the linear that is next; all true without masking and after the last."""
        if not self.masked or self.index >= self.problem.n:
            return np.ones(len(self.problem.widths), dtype=bool)
        return self.bytes.mask(self.index, self.left)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin with the first linear; nothing here is random."""
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
            size_bytes = self.bytes.budget - self.left
            terms = reward_terms(score, size_bytes, self.bytes.budget, self.reward, self.problem.nll_float)
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

    def walk(self, act: Any) -> Steps:
        """Go through all linears without evaluating: ``act(index, observation [11], mask [w]) -> action``."""
        self._start()
        observations, masks = [], []
        for index in range(self.problem.n):
            observations.append(self.observe())
            masks.append(self.action_mask())
            self._commit(int(act(index, observations[-1], masks[-1])))
        actions = self.choice.copy()
        self._start()
        return Steps(np.array(observations), np.array(masks), actions, np.zeros(len(actions), dtype=np.float32))

    def play(self, choice: np.ndarray) -> tuple[Steps, dict[str, Any]]:
        """Execute an allocation step by step, evaluate it, and return what was seen with the last ``info``."""
        observation, info = self.reset()
        seen, masks, actions, rewards = [], [], [], []
        for action in choice:
            seen.append(observation)
            masks.append(info["action_mask"])
            observation, reward, _, _, info = self.step(int(action))
            actions.append(info["executed_action"])
            rewards.append(reward)
        return Steps(np.array(seen), np.array(masks), np.array(actions), np.array(rewards, dtype=np.float32)), info


gymnasium.register("ramp/Allocation-v0", f"{__name__}:{AllocationEnv.__name__}")
