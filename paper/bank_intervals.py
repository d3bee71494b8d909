"""Intervals over banks: banks and windows are resampled, both alike for all methods that are compared.

A bank is one draw of calibration text; rows of one bank share its rounding, so that banks, not rows, are what can be
resampled as independent. A bank's search seeds are averaged: their scatter is part of that over banks. Windows are the
same held-out ones on every bank: a resample draws them once for all banks.

Banks are few, and percentiles of n resampled banks never leave their range. As for search seeds (``paper.intervals``)
the interval is therefore the estimate and Student's t times its standard error, on the scale of the logarithm: the
variances over resamples of banks alone and of windows alone, each times n / (n - 1), with the degrees of freedom of
Welch and Satterthwaite (B. L. Welch, Biometrika 34, 1947). What a window does on one bank alone is in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from paper.intervals import distinct, exponential, reading
from ramp.evaluation.bootstrap import TAIL, Estimate

DRAWS = 10_000
"""Resamples: a standard error from so many is right to 1 %."""

LEAST_BANKS = 5
"""Banks below which no reading is given. An interval of two to four rests on their being normal, which so few cannot
show, and their range holds the median of such draws with a chance of 1 - 2^(1-n): 50 % of two, 94 % of five."""

FEW_BANKS, LITTLE_TEXT = "few banks", "little text"

Rows = Sequence[np.ndarray]
"""One method over banks: per bank float64 [seeds, windows], KL summed over a window's tokens, nats."""

Statistic = Callable[..., np.ndarray]
"""Of weights of windows [draws, windows] and each method's means over resampled banks [draws or 1, windows]: numbers
above zero, [draws]."""


@dataclass(frozen=True)
class OverBanks:
    """A number over banks with its interval, and over what the interval runs."""

    estimate: Estimate
    banks: int
    seeds: tuple[int, ...]  # seeds within a bank, each count once
    windows: int
    little_text: bool = False  # too little to judge on (``paper.evidence``)

    def side(self, limit: float) -> int:
        """Return the side of ``limit`` on which the whole interval lies; 0 across it, of too few banks or windows."""
        return 0 if self.banks < LEAST_BANKS or self.little_text else self.estimate.side(limit)

    @property
    def reading(self) -> str:
        """One word for a ratio: better, worse, within noise or identical; what it lacks; nothing of one bank."""
        if self.banks < LEAST_BANKS or self.little_text:
            return "" if self.banks < 2 else FEW_BANKS if self.banks < LEAST_BANKS else LITTLE_TEXT
        return reading(self.estimate, 1.0)

    @property
    def runs_over(self) -> str:
        """Return what the interval runs over, with counts; of one bank, that it does not run over banks."""
        seeds = " or ".join(str(count) for count in self.seeds)
        plural = "" if self.seeds == (1,) else "s"
        if self.banks < 2:
            return f"1 bank, without an interval over banks, {seeds} search seed{plural}, {self.windows} windows"
        return f"{self.banks} banks, {seeds} search seed{plural} on each, {self.windows} windows"


def resamples(sides: Sequence[Rows], statistic: Statistic, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """Return the statistic of every resample of banks and windows: [draws]."""
    picked, weights, means = _drawn(sides, seed, draws)
    return statistic(weights, *(picked @ each for each in means))


def _drawn(sides: Sequence[Rows], seed: int, draws: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return shares of banks [draws, banks], weights of windows [draws, windows], and means over seeds by method."""
    rng = np.random.default_rng(seed)
    n, windows = len(sides[0]), sides[0][0].shape[1]
    picked = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
    weights = rng.multinomial(windows, np.full(windows, 1 / windows), size=draws).astype(float)
    return picked, weights, [np.stack([sums.mean(axis=0) for sums in distinct(rows)]) for rows in sides]


def interval_over_banks(sides: Sequence[Rows], statistic: Statistic, seed: int = 0) -> Estimate:
    """Return a statistic of the means over banks with its interval; none of one bank or of one window.

    sides: the rows of every method that the statistic compares, on the same banks and windows.
    """
    n, windows = len(sides[0]), sides[0][0].shape[1]
    picked, weights, means = _drawn(sides, seed, DRAWS)
    whole = [each.mean(axis=0, keepdims=True) for each in means]
    value = float(statistic(np.ones((1, windows)), *whole)[0])
    if n < 2 or windows < 2:
        return Estimate(value)
    over_banks = statistic(np.ones((1, windows)), *(picked @ each for each in means))
    variance, spread = 0.0, 0.0
    for count, drawn in ((n, over_banks), (windows, statistic(weights, *whole))):
        if not (drawn > 0).all():  # a KL of 0 has no logarithm
            return Estimate(value)
        part = float(np.var(np.log(drawn))) * count / (count - 1)
        variance += part
        spread += part**2 / (count - 1)
    if not spread:
        return Estimate(value, value, value)
    half = math.sqrt(variance) * float(stats.t.ppf(1 - TAIL, variance**2 / spread))
    return exponential(Estimate(math.log(value), math.log(value) - half, math.log(value) + half))


def _about(sides: Sequence[Rows]) -> tuple[int, tuple[int, ...], int]:
    """Return the numbers of banks, of seeds within a bank, each once, and of windows."""
    counts = sorted({len(sums) for rows in sides for sums in rows})
    return len(sides[0]), tuple(counts), sides[0][0].shape[1]


def level_over_banks(rows: Rows, tokens: np.ndarray, seed: int = 0) -> OverBanks:
    """Return the KL per token of one method, the mean over banks; ``tokens`` [windows]."""
    sides = [rows]
    estimate = interval_over_banks(sides, lambda w, mean: (w * mean).sum(axis=1) / (w @ tokens), seed)
    return OverBanks(estimate, *_about(sides))


def ratio_of_sums(weights: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return the ratio of two methods' sums over weighted windows, [draws]."""
    return np.asarray((weights * top).sum(axis=1) / (weights * bottom).sum(axis=1))


def ratio_over_banks(rows: Rows, rival: Rows, seed: int = 0) -> OverBanks:
    """Return the KL of one method over that of another on the same banks and windows: a ratio of means over banks."""
    sides = [rows, rival]
    return OverBanks(interval_over_banks(sides, ratio_of_sums, seed), *_about(sides))


def spread_over_banks(rows: Rows) -> float | None:
    """Return the standard deviation over banks of the mean KL, as a share of its mean; None of one bank."""
    if len(rows) < 2:
        return None
    means = np.array([sums.mean(axis=0).sum() for sums in rows])
    return float(means.std(ddof=1) / means.mean())
