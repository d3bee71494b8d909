"""An additive model of the KL, learned from true evaluations, with the proxy as its prior.

KL(choice) = sum_i theta[i, choice_i] + noise. Before any evaluation theta is the proxy; its prior covariance says
how the proxy may be wrong, each effect as a fraction of the proxy's own value p[i, a]:

    cov(theta_ia, theta_jb) = p_ia p_jb (g^2 + t^2 [a = b] + r^2 [role] + d^2 exp(-(x_i - x_j)^2 / 2 l^2)
                                         + u^2 [i = j] + e^2 [i = j][a = b])

(all linears alike, one width, one role, neighbouring depths, one linear, one linear at one width). That is Bayesian
ridge regression with shared effects, which a hundred evaluations can pin down where 840 free numbers could not be
(Rasmussen and Williams 2006, section 2.1). Draws from the posterior by Matheron's rule serve as Thompson samples:
a knapsack solved on a draw proposes an allocation that may well be the optimum.

Three optional terms, each off by default:

- ``text``: the text that was scored is a sample. Evaluations on one text share delta with
  cov(delta_ia, delta_jb) = s^2 p_ia p_jb [i = j], and it is theta alone that the posterior is about. So what was
  learned on one small text is trusted less than its small noise suggests, and evaluations on many texts more.
- ``pairs``: interactions between linears of one block, or of neighbours in forward order (``ramp.rl.interactions``).
- ``monotone``: a wider width never costs more, by isotonic regression of each linear's row.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ramp.allocators import knapsack
from ramp.models.architecture import LinearSpec
from ramp.rl.interactions import Interactions, neighbours

WHOLE = -1
"""The label of an evaluation on the whole search text."""


class SurrogateParams(BaseModel):
    """Prior spreads, as fractions of the proxy's value, and the noise of additivity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    common: float = Field(default=0.5, ge=0, description="g: the proxy's scale as a whole")
    width: float = Field(default=0.3, ge=0, description="t: one width against the others")
    role: float = Field(default=0.3, ge=0, description="r: one role (q, k, v, o, gate, up, down) against the others")
    depth: float = Field(default=0.3, ge=0, description="d: one depth against the others")
    depth_length: float = Field(
        default=0.1, gt=0, description="l: how far a depth effect reaches, as a share of the depth"
    )
    linear: float = Field(default=0.3, ge=0, description="u: one linear against the others")
    cell: float = Field(default=0.2, ge=0, description="e: one linear at one width")
    noise: float = Field(default=0.01, gt=0, description="deviation from additivity, as a fraction of the best KL seen")
    noise_far: float = Field(
        default=0.2, ge=0, description="the same, as a fraction of the distance to the best KL seen"
    )
    part_noise: float = Field(
        default=0.02, ge=0, description="more of it where a part of the text was scored, as a fraction of the best KL"
    )
    text: float = Field(
        default=0.0, ge=0, description="s: one linear on the scored text against all text [0: the text is all text]"
    )
    monotone: bool = Field(default=False, description="a wider width never costs more, in means and draws")
    pairs: Literal["none", "adjacent", "block"] = Field(
        default="none", description="interactions: of neighbours in forward order, or of all linears of a block"
    )
    pair: float = Field(
        default=0.1, ge=0, description="q: spread of one interaction, as a fraction of sqrt(p_ia p_jb); a ridge"
    )


class _System(NamedTuple):
    """The linear system of Matheron's rule for m evaluations; draws and means share it."""

    factors: tuple[np.ndarray, np.ndarray]  # LU of A K A' + T + N, [m, m]
    crossed: np.ndarray  # A K, [m, n w]
    deviation: np.ndarray  # of the noise, [m]
    taken: np.ndarray | None  # spread of each linear on the scored text, [m, n]; None where texts do not differ
    reference: np.ndarray | None  # the choice that losses are relative to


class AdditiveSurrogate:
    """Posterior of theta [n, w] given evaluated allocations."""

    def __init__(self, proxy: np.ndarray, linears: list[LinearSpec], params: SurrogateParams | None = None) -> None:
        self.proxy, self.params = np.maximum(np.asarray(proxy, dtype=np.float64), 0.0), params or SurrogateParams()
        n, w = self.proxy.shape
        p = self.params
        depth = np.arange(n) / max(n - 1, 1)
        roles = np.array([linear.role for linear in linears])
        same_role = roles[:, None] == roles[None, :]
        near = np.exp(-((depth[:, None] - depth[None, :]) ** 2) / (2 * p.depth_length**2))
        between = p.common**2 + p.role**2 * same_role + p.depth**2 * near + p.linear**2 * np.eye(n)  # [n, n]
        shared = np.kron(between, np.ones((w, w))) + np.kron(np.ones((n, n)), p.width**2 * np.eye(w))
        shared += p.cell**2 * np.eye(n * w)
        flat = self.proxy.ravel()
        self.covariance = flat[:, None] * shared * flat[None, :]  # [n w, n w]
        # a draw of the prior is p * L z with L the Cholesky factor of the effects' covariance
        self.factor = np.linalg.cholesky(shared + 1e-9 * np.eye(n * w)) * flat[:, None]
        self.choices = np.zeros((0, n), dtype=np.int64)
        self.losses = np.zeros(0)
        self.texts = np.zeros(0, dtype=np.int64)  # which part of the search text, or WHOLE
        self.reference: np.ndarray | None = None  # losses relative to this choice [n]: the text is felt by differences
        self._solver: _System | None = None  # of the evaluations so far
        self.pairs = None if p.pairs == "none" else Interactions(self.proxy, neighbours(linears, p.pairs), p.pair)

    def add(self, choice: np.ndarray, loss: float, text: int = WHOLE) -> None:
        """One true evaluation; a loss that is not finite teaches nothing additive and is left out."""
        if np.isfinite(loss):
            self.observe(np.asarray(choice, dtype=np.int64)[None], np.array([loss]), np.array([text]))

    def observe(self, choices: np.ndarray, losses: np.ndarray, texts: np.ndarray) -> None:
        """Evaluations [m, n], their losses [m] and texts [m], all finite; also how a saved state comes back."""
        self.choices = np.vstack([self.choices, choices])
        self.losses = np.append(self.losses, np.asarray(losses, dtype=np.float64))
        self.texts = np.append(self.texts, np.asarray(texts, dtype=np.int64))
        if self.pairs is not None:
            self.pairs.observe(choices)
        self._solver = None

    def predict(self, choices: np.ndarray, theta: np.ndarray | None = None) -> np.ndarray:
        """Summed theta of choices [m, n], with the mean interactions where there are any."""
        theta = self.mean() if theta is None else theta
        told = theta[np.arange(theta.shape[0])[None, :], choices].sum(axis=1)
        if self.pairs is not None and len(self.losses):
            told = told + np.array([self.pairs.value(choice) for choice in choices])
        return told

    def mean(self) -> np.ndarray:
        """Posterior mean of theta, [n, w]; the proxy itself before any evaluation."""
        return self._falling(self._conditioned(self.proxy, None))

    def sample(self, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        """One draw of theta [n, w] from the posterior, its distance to the mean times ``spread``."""
        draw = self.proxy.ravel() + self.factor @ rng.standard_normal(self.proxy.size)
        drawn = self._conditioned(draw.reshape(self.proxy.shape), rng)
        mean = self._conditioned(self.proxy, None)  # last, so that the interactions at hand are the mean ones
        return self._falling(mean + spread * (drawn - mean))

    def solve(self, theta: np.ndarray, sizes: np.ndarray, budget_bytes: int, rounds: int = 8) -> np.ndarray:
        """The knapsack on theta [n, w]; with interactions, on theta linearized around the last solution, repeatedly.

        The best of the solutions in theta plus the mean interactions is returned: a fixed point need not exist, and
        where it does it is a local optimum only (Frank and Wolfe 1956, for the continuous case).
        """
        choice = knapsack.solve(theta, sizes, budget_bytes)
        if self.pairs is None or not len(self.losses):
            return choice
        tried = [choice]
        for _ in range(rounds):
            choice = knapsack.solve(theta + self.pairs.slope(choice), sizes, budget_bytes)
            if any(np.array_equal(choice, earlier) for earlier in tried):
                break
            tried.append(choice)
        return tried[int(np.argmin(self.predict(np.array(tried), theta)))]

    def _falling(self, theta: np.ndarray) -> np.ndarray:
        """``theta`` with rows that never rise, where the switch asks for it; relative errors count, as in the prior.

        Isotonic regression: the nearest such row in weighted squares (Barlow et al. 1972).
        """
        if not self.params.monotone:
            return theta
        from scipy.optimize import isotonic_regression

        weights = 1.0 / np.maximum(self.proxy, 1e-12 + 1e-6 * self.proxy.max()) ** 2
        rows = zip(theta, weights, strict=True)
        return np.array([isotonic_regression(row, weights=weight, increasing=False).x for row, weight in rows])

    def _conditioned(self, theta: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """theta + K A' (A K A' + T + N)^-1 (losses - A theta - noise): Matheron's rule; no noise gives the mean."""
        from scipy.linalg import lu_solve  # late: reading a configuration should not import it

        if not len(self.losses):
            return theta
        n, w = theta.shape
        if self._solver is None or self._solver.reference is not self.reference:
            self._solver = self._factored()
        system = self._solver
        miss = self.losses - theta[np.arange(n)[None, :], self.choices].sum(axis=1)
        if rng is not None:
            miss = miss - system.deviation * rng.standard_normal(len(miss))
            if system.taken is not None:
                labels, where = np.unique(self.texts, return_inverse=True)
                miss = miss - (system.taken * rng.standard_normal((len(labels), n))[where]).sum(axis=1)
        weights = lu_solve(system.factors, miss)
        if self.pairs is not None and rng is None:
            self.pairs.weigh(weights)
        return theta + (weights @ system.crossed).reshape(n, w)

    def _factored(self) -> _System:
        """What every conditioning on the evaluations so far has in common."""
        from scipy.linalg import lu_factor

        n, w = self.proxy.shape
        hot = np.zeros((len(self.losses), n * w))  # A: which cells each evaluated allocation takes
        hot[np.arange(len(hot))[:, None], self.choices + w * np.arange(n)[None, :]] = 1.0
        best = self.losses.min()
        deviation = self.params.noise * max(best, 1e-12) + self.params.noise_far * (self.losses - best)
        deviation = deviation + (self.texts != WHOLE) * self.params.part_noise * max(best, 1e-12)
        crossed = hot @ self.covariance
        inner = crossed @ hot.T + np.diag(deviation**2)
        taken = None
        if self.params.text > 0:
            taken = self.params.text * self.proxy[np.arange(n)[None, :], self.choices]
            if self.reference is not None:
                taken = taken - self.params.text * self.proxy[np.arange(n), self.reference]
            inner += (self.texts[:, None] == self.texts[None, :]) * (taken @ taken.T)
        if self.pairs is not None:
            inner += self.pairs.kernel
        return _System(lu_factor(inner), crossed, deviation, taken, self.reference)
