"""Pairwise interactions of the additive critic: what two linears cost together beyond what each costs alone.

    KL(choice) = sum_i theta[i, choice_i] + sum_{(i, j) in N} Q[i, choice_i, j, choice_j] + noise

N are neighbours in forward order or all pairs of one decoder block. Each Q is a number of its own with prior mean 0
and deviation q sqrt(p_ia p_jb), p the proxy: ridge regression, sparse by the choice of N. There are far more of them
(10,080 for 30 blocks of 7 linears and 4 widths) than evaluations, so they are never formed one by one: the kernel of
two allocations is q^2 sum_N sqrt-free products over the pairs on which both agree, and the posterior mean comes from
the regression's weights (Rasmussen and Williams 2006, section 2.2).
"""

from __future__ import annotations

import numpy as np

from ramp.models.architecture import LinearSpec


def neighbours(linears: list[LinearSpec], kind: str) -> np.ndarray:
    """bool [n, n], symmetric, false on the diagonal: which linears interact; ``kind`` is adjacent or block."""
    index = np.arange(len(linears))
    if kind == "adjacent":
        return np.abs(index[:, None] - index[None, :]) == 1
    layers = np.array([linear.layer for linear in linears])
    return (layers[:, None] == layers[None, :]) & (index[:, None] != index[None, :])


class Interactions:
    """Kernel of the observed allocations, and posterior mean of Q once ``weigh`` was told the regression's weights."""

    def __init__(self, proxy: np.ndarray, pairs: np.ndarray, spread: float) -> None:
        self.n, self.w = proxy.shape
        self.first, self.second = np.nonzero(np.triu(pairs))  # each pair once
        self.pairs, self.variance = pairs, spread**2
        self.proxy = proxy
        self.codes = np.zeros((0, len(self.first)), dtype=np.int64)  # [m, pairs]: which cell of Q each allocation takes
        self.weight = np.zeros((0, len(self.first)))  # [m, pairs]: its prior variance
        self.choices = np.zeros((0, self.n), dtype=np.int64)
        self.kernel = np.zeros((0, 0))  # [m, m]
        self.q = np.zeros((self.n * self.w, self.n * self.w))

    def observe(self, choices: np.ndarray) -> None:
        """Allocations [m, n] more."""
        rows = np.arange(self.n)
        for choice in choices:
            own = self.proxy[rows, choice]  # [n]
            code = choice[self.first] * self.w + choice[self.second]
            weight = self.variance * own[self.first] * own[self.second]
            self.codes = np.vstack([self.codes, code])
            self.weight = np.vstack([self.weight, weight])
            self.choices = np.vstack([self.choices, choice])
            # where two allocations take the same cell, its prior variance is the same number in both
            shared = ((self.codes == code) * self.weight).sum(axis=1)  # [m + 1]
            self.kernel = np.block([[self.kernel, shared[:-1, None]], [shared[None, :-1], shared[None, -1:]]])

    def weigh(self, weights: np.ndarray) -> None:
        """Take the posterior mean of Q [n w, n w] from the regression's weights [m]; symmetric, zero off the pairs."""
        hot = np.zeros((len(self.choices), self.n * self.w))
        hot[np.arange(len(hot))[:, None], self.choices + self.w * np.arange(self.n)[None, :]] = 1.0
        flat = self.proxy.ravel()
        among = np.kron(self.pairs, np.ones((self.w, self.w)))
        self.q = self.variance * flat[:, None] * flat[None, :] * among * (hot.T @ (weights[:, None] * hot))

    def slope(self, choice: np.ndarray) -> np.ndarray:
        """What each linear's width adds [n, w] while all others keep theirs in ``choice`` [n]."""
        cells = np.asarray(choice) + self.w * np.arange(self.n)
        return self.q[:, cells].sum(axis=1).reshape(self.n, self.w)

    def value(self, choice: np.ndarray) -> float:
        """Sum of the mean interactions of ``choice`` [n]."""
        cells = np.asarray(choice) + self.w * np.arange(self.n)
        return 0.5 * float(self.q[np.ix_(cells, cells)].sum())
