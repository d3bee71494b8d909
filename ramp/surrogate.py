"""An additive model of the KL, learned from true evaluations, with the proxy as its prior.

KL(choice) = sum_i theta[i, choice_i] + noise. Before any evaluation theta is the proxy; its prior covariance says
how the proxy may be wrong, each effect as a fraction of the proxy's own value p[i, a]:

    cov(theta_ia, theta_jb) = p_ia p_jb (g^2 + t^2 [a = b] + r^2 [role] + d^2 exp(-(x_i - x_j)^2 / 2 l^2)
                                         + u^2 [i = j] + e^2 [i = j][a = b])

(all linears alike, one width, one role, neighbouring depths, one linear, one linear at one width). That is Bayesian
ridge regression with shared effects, which a hundred evaluations can pin down where 840 free numbers could not be
(Rasmussen and Williams 2006, section 2.1). Draws from the posterior by Matheron's rule serve as Thompson samples:
a knapsack solved on a draw proposes an allocation that may well be the optimum.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ramp.models import LinearSpec


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

    def add(self, choice: np.ndarray, loss: float) -> None:
        """One true evaluation; a loss that is not finite teaches nothing additive and is left out."""
        if np.isfinite(loss):
            self.choices = np.vstack([self.choices, np.asarray(choice, dtype=np.int64)])
            self.losses = np.append(self.losses, float(loss))

    def predict(self, choices: np.ndarray, theta: np.ndarray | None = None) -> np.ndarray:
        """Summed theta of choices [m, n]."""
        theta = self.mean() if theta is None else theta
        return theta[np.arange(theta.shape[0])[None, :], choices].sum(axis=1)

    def mean(self) -> np.ndarray:
        """Posterior mean of theta, [n, w]; the proxy itself before any evaluation."""
        return self._conditioned(self.proxy, None)

    def sample(self, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        """One draw of theta [n, w] from the posterior, its distance to the mean times ``spread``."""
        draw = self.proxy.ravel() + self.factor @ rng.standard_normal(self.proxy.size)
        mean = self.mean()
        return mean + spread * (self._conditioned(draw.reshape(self.proxy.shape), rng) - mean)

    def _conditioned(self, theta: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """theta + K A' (A K A' + N)^-1 (losses - A theta - noise): Matheron's rule; no noise gives the mean."""
        if not len(self.losses):
            return theta
        n, w = theta.shape
        hot = np.zeros((len(self.losses), n * w))  # A: which cells each evaluated allocation takes
        hot[np.arange(len(hot))[:, None], self.choices + w * np.arange(n)[None, :]] = 1.0
        best = self.losses.min()
        deviation = self.params.noise * max(best, 1e-12) + self.params.noise_far * (self.losses - best)
        crossed = hot @ self.covariance  # [m, n w] = A K
        inner = crossed @ hot.T + np.diag(deviation**2)
        miss = self.losses - hot @ theta.ravel()
        if rng is not None:
            miss = miss - deviation * rng.standard_normal(len(miss))
        return theta + (np.linalg.solve(inner, miss) @ crossed).reshape(n, w)
