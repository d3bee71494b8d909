"""The additive critic: a linear model of the KL, learned from true evaluations, with the proxy as its prior.

KL(choice) = sum_i theta[i, choice_i] + noise. Before any evaluation theta is the proxy; its prior covariance says
how the proxy may be wrong, each effect as a fraction of the proxy's own value p[i, a]:

    cov(theta_ia, theta_jb) = p_ia p_jb (g^2 + t^2 [a = b] + r^2 [role] + d^2 exp(-(x_i - x_j)^2 / 2 l^2)
                                         + u^2 [i = j] + e^2 [i = j][a = b])

(all linears alike, one width, one role, neighbouring depths, one linear, one linear at one width). That is Bayesian
ridge regression with shared effects, which a hundred evaluations can pin down where 840 free numbers could not be
(Rasmussen and Williams 2006, section 2.1). Draws from the posterior by Matheron's rule serve as Thompson samples:
a knapsack on a draw proposes an allocation.

The parameter ``text`` (0 by default) makes the scored text a sample: evaluations on one text share delta with
cov(delta_ia, delta_jb) = s^2 p_ia p_jb [i = j], and the posterior is that of theta alone. So evaluations on one small
text count for less than their small noise suggests, and evaluations on many texts for more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat

from ramp.methods.kinds import Params
from ramp.models.architecture import LinearSpec

WHOLE = -1
"""The label of an evaluation on the whole search text."""


class SurrogateParams(Params):
    """Prior spreads, as fractions of the proxy's value, and the noise of additivity."""

    common: NonNegativeFloat = 0.5
    """g: the proxy's scale as a whole."""
    width: NonNegativeFloat = 0.3
    """t: one width against the others."""
    role: NonNegativeFloat = 0.3
    """r: one role (q, k, v, o, gate, up, down) against the others."""
    depth: NonNegativeFloat = 0.3
    """d: one depth against the others."""
    depth_length: PositiveFloat = 0.1
    """l: how far a depth effect reaches, as a share of the depth."""
    linear: NonNegativeFloat = 0.3
    """u: one linear against the others."""
    cell: NonNegativeFloat = 0.2
    """e: one linear at one width."""
    noise: PositiveFloat = 0.01
    """Deviation from additivity, as a fraction of the best KL seen."""
    noise_far: NonNegativeFloat = 0.2
    """The same, as a fraction of the distance to the best KL seen."""
    part_noise: NonNegativeFloat = 0.02
    """More of it where a part of the text was scored, as a fraction of the best KL."""
    text: NonNegativeFloat = 0.0
    """s: one linear on the scored text against all text [0: the text is all text]."""


class _System(NamedTuple):
    """The linear system of Matheron's rule for m evaluations; draws and means share it."""

    factors: tuple[np.ndarray, np.ndarray]  # LU of A K A' + T + N, [m, m]
    crossed: np.ndarray  # A K, [m, n w]
    deviation: np.ndarray  # of the noise, [m]
    taken: np.ndarray | None  # spread of each linear on the scored text, [m, n]; None where texts do not differ
    reference: np.ndarray | None  # the choice that losses are relative to


class AdditiveSurrogate:
    """Posterior of theta [n, w] given evaluated allocations.

    Args:
        proxy: float [n, w], nats per token.
        linears: the linears of the model, in forward order.
        params: see ``SurrogateParams``.
    """

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
        self.reference: np.ndarray | None = None  # losses are relative to this choice [n]
        self._solver: _System | None = None  # of the evaluations so far

    def add(self, choice: np.ndarray, loss: float, text: int = WHOLE) -> None:
        """Add one true evaluation; a loss that is not finite is left out."""
        if np.isfinite(loss):
            self.choices = np.vstack([self.choices, np.asarray(choice, dtype=np.int64)])
            self.losses = np.append(self.losses, loss)
            self.texts = np.append(self.texts, text)
            self._solver = None

    def mean(self) -> np.ndarray:
        """Return the posterior mean of theta, [n, w]; the proxy itself before any evaluation."""
        return self._conditioned(self.proxy, None)

    def sample(self, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        """Return one draw of theta [n, w] from the posterior, its distance to the mean times ``spread``."""
        draw = self.proxy.ravel() + self.factor @ rng.standard_normal(self.proxy.size)
        drawn = self._conditioned(draw.reshape(self.proxy.shape), rng)
        mean = self.mean()
        return mean + spread * (drawn - mean)

    def _conditioned(self, theta: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Return theta + K A' (A K A' + T + N)^-1 (losses - A theta - noise), Matheron's rule; no noise: the mean."""
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
        return theta + (weights @ system.crossed).reshape(n, w)

    def _factored(self) -> _System:
        """Return the linear system of the evaluations so far."""
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
        return _System(lu_factor(inner), crossed, deviation, taken, self.reference)
