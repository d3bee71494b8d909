"""The reward of an allocation: quality first, asymmetric, with a cliff at the budget; paid at the last step.

    r = - k_q * max(0, quality loss) + k_b * max(0, 1 - bytes / budget)
        - k_o * max(0, bytes / budget - 1) - k_c * [bytes > budget]

The quality loss is the mean KL to the float model, or log(ppl / ppl_float), in nats. A negative k_b is a penalty on
bytes that are left over; k_b = -k_o punishes both sides of the budget alike. The learner scales returns to a spread of
about 1 (``ramp.rl.history``), so only the proportions of the terms matter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import FiniteFloat, NonNegativeFloat, PositiveFloat, model_validator

from ramp.allocators.knapsack import multiplier
from ramp.methods.kinds import Params
from ramp.scoring.score_type import Score


class RewardParams(Params):
    """Weights of the terms of the reward; the values of the paper are not known."""

    quality: Literal["kl", "log_ppl"] = "kl"
    """Quality loss: mean KL in nats, or log(ppl / ppl_float)."""
    quality_cap: PositiveFloat = 20.0
    """Largest quality loss, in nats; also that of an evaluation that is not finite."""
    k_q: PositiveFloat = 10.0
    """Weight of the quality loss."""
    k_b: FiniteFloat = 1.0
    """Bonus for bytes below the budget, as a fraction of it; smaller than k_q. Negative: a penalty on them, with -k_o
    as large as that on bytes above the budget."""
    k_o: NonNegativeFloat = 0.0
    """Penalty on bytes above the budget, as a fraction of it."""
    k_c: NonNegativeFloat = 5.0
    """Cliff: penalty for being above the budget at all."""

    @model_validator(mode="after")
    def _quality_first(self) -> RewardParams:
        if self.k_b >= self.k_q:
            raise ValueError(f"k_b = {self.k_b} must stay below k_q = {self.k_q}: the reward puts quality first")
        return self


def reward_terms(
    score: Score, size_bytes: int, budget_bytes: int, params: RewardParams, nll_float: float
) -> dict[str, float]:
    """Return the terms of the reward and their sum: keys ``quality, saving, overshoot, cliff, total``."""
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


def shaping_costs(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Return reduced costs [n, w] >= 0 of the additive proxy under the Lagrange multiplier of the budget.

    They are cost + price * bytes, less the minimum of the linear: zero for the widths of the relaxed knapsack. Their
    running sum is minus the potential; shaping by potentials does not change the optimal policy (Ng, Harada and
    Russell 1999).
    """
    priced = costs + multiplier(costs, sizes, budget_bytes) * sizes
    return priced - priced.min(axis=1, keepdims=True)
