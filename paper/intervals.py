"""Intervals of the paper's comparisons: windows (and seeds) of perplexity and KL, items of tasks.

Windows are drawn as in ``ramp.evaluation.bootstrap``, so that one seed gives the interval that the records hold, the
percentiles of the resamples; items of tasks are drawn within their task. Two rows are compared on the same resampled
windows, so that what makes a window hard for both cancels out.

Search seeds are few, and percentiles of n resampled seeds never leave their range, which holds the median of such
searches with a chance of 75 % where n is 3. Where a row has several, the interval is therefore the estimate and
Student's t times its standard error: of resampled windows and seeds, the seeds' part times n / (n - 1), with the
degrees of freedom of Welch and Satterthwaite (B. L. Welch, Biometrika 34, 1947), for which windows count as many.
Numbers above zero have it on the scale of their logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ramp.evaluation.bootstrap import RESAMPLES as DRAWS
from ramp.evaluation.bootstrap import Estimate, resample, with_ends

TAIL = 0.025
"""Share of the draws below an interval; ``ramp.evaluation.bootstrap.TAIL`` differs from it in the last bit."""

IDENTICAL = "identical"
"""Reading of two rows that do not differ in any window: one allocation, found twice."""

Statistic = Callable[..., np.ndarray]
"""Of weights of windows [draws, windows] and each row's means over seeds [draws or 1, windows]: [draws]."""


@dataclass(frozen=True)
class StandardError:
    """Standard error of a number, and its degrees of freedom: infinite where no row has several seeds."""

    size: float
    freedom: float = math.inf

    def times(self, share: float) -> float:
        """Return the error times Student's t with ``share`` of the distribution below it."""
        return self.size * float(stats.t.ppf(share, self.freedom))


def distinct(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the rows; one whose seeds all found one allocation has it once: its mean is that row to the bit."""
    return [sums[:1] if (sums == sums[0]).all() else sums for sums in rows]


def _drawn(rows: Sequence[np.ndarray], seed: int, statistic: Statistic) -> tuple[np.ndarray, StandardError]:
    """Return the statistic of every draw, [DRAWS], and its standard error.

    rows: sums [seeds, windows], each over its own seeds; one seed is no source of spread.
    """
    n_windows = rows[0].shape[1]
    rows = distinct(rows)
    rng = np.random.default_rng(seed)
    places = resample(n_windows, DRAWS, seed) + n_windows * np.arange(DRAWS)[:, None]
    weights = np.bincount(places.ravel(), minlength=places.size).reshape(places.shape).astype(float)
    means = [sums.mean(axis=0, keepdims=True) for sums in rows]
    drawn = []
    for sums, mean in zip(rows, means, strict=True):
        n = len(sums)
        drawn.append(rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) @ sums / n if n > 1 else mean)
    draws = statistic(weights, *drawn)
    missing, spread = 0.0, 0.0
    for place, n in enumerate(map(len, rows)):
        if n > 1:  # this row's seeds alone, on the windows as they are
            alone = statistic(np.ones((1, n_windows)), *[*means[:place], drawn[place], *means[place + 1 :]])
            part = float(np.var(alone)) * n / (n - 1)
            missing += part / n
            spread += part**2 / (n - 1)
    variance = float(np.var(draws)) + missing
    return draws, StandardError(math.sqrt(variance), variance**2 / spread if spread else math.inf)


def _interval(value: float, rows: Sequence[np.ndarray], seed: int, statistic: Statistic) -> Estimate:
    """Return ``value`` with its interval over windows and seeds; none with a single window."""
    if rows[0].shape[1] < 2:
        return Estimate(value)
    draws, error = _drawn(rows, seed, statistic)
    if math.isinf(error.freedom):
        return with_ends(value, draws, TAIL)
    half = error.times(1 - TAIL)
    return Estimate(value, value - half, value + half)


def _positive(value: float, rows: Sequence[np.ndarray], seed: int, statistic: Statistic) -> Estimate:
    """Return ``_interval`` of a number above zero; with several seeds, on the scale of its logarithm."""

    def logarithm(*given: np.ndarray) -> np.ndarray:
        return np.log(statistic(*given))

    if value > 0 and max(map(len, distinct(rows))) > 1:
        return exponential(_interval(math.log(value), rows, seed, logarithm))
    return _interval(value, rows, seed, statistic)


def per_token(sums: np.ndarray, tokens: np.ndarray) -> float:
    """Return the mean over seeds of sum over windows / tokens; ``sums`` [seeds, windows], ``tokens`` [windows]."""
    return float(sums.mean(axis=0).sum() / tokens.sum())


def mean_interval(sums: np.ndarray, tokens: np.ndarray, seed: int = 0) -> Estimate:
    """Return the per-token mean of one row (nll or KL) with its interval; shapes as in ``per_token``."""
    return _positive(per_token(sums, tokens), [sums], seed, lambda w, mean: (w * mean).sum(axis=1) / (w @ tokens))


def paired_difference(a: np.ndarray, b: np.ndarray, tokens: np.ndarray, seed: int = 0) -> Estimate:
    """Return the per-token mean of ``a`` [seeds_a, windows] minus that of ``b`` [seeds_b, windows], paired."""
    return _interval(per_token(a, tokens) - per_token(b, tokens), [a, b], seed, _difference(tokens))


def _difference(tokens: np.ndarray) -> Statistic:
    return lambda w, a, b: (w * (a - b)).sum(axis=1) / (w @ tokens)


def standard_error(a: np.ndarray, b: np.ndarray, tokens: np.ndarray, seed: int = 0) -> StandardError:
    """Return the standard error of ``paired_difference``, in its unit; NaN with a single window.

    a: float [seeds_a, windows]; b: [seeds_b, windows]; tokens: int [windows].
    """
    return _drawn([a, b], seed, _difference(tokens))[1] if len(tokens) > 1 else StandardError(math.nan)


def p_value(value: float, error: StandardError) -> float:
    """Return how likely so large a paired difference is if there is none: two-sided, of Student's t with this error.

    Shares of draws beyond 0 would end at 1 / DRAWS, too coarse to correct for many comparisons. NaN without an error;
    0 differences are certain (1).
    """
    if value == 0:
        return 1.0
    return 2 * float(stats.t.sf(abs(value) / error.size, error.freedom)) if error.size > 0 else math.nan


def detectable(error: StandardError) -> float:
    """Return the smallest true difference that is found four times of five: two-sided at 5 %, of Student's t.

    It does not look at the difference that was found: J. M. Hoenig and D. M. Heisey, The American Statistician 55
    (2001), on why it should not.
    """
    return error.times(0.975) + error.times(0.8)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (S. Holm, Scandinavian Journal of Statistics 6, 1979); NaN stays."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p == p)
    corrected, largest = [float("nan")] * len(p_values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[i] = largest
    return corrected


def paired_ratio(a: np.ndarray, b: np.ndarray, tokens: np.ndarray, seed: int = 0) -> Estimate:
    """Return the per-token mean of ``a`` over that of ``b`` (positive sums such as KL), on the same windows.

    a: float [seeds_a, windows]; b: [seeds_b, windows]; tokens: int [windows]. A ratio has no unit.
    """
    value = per_token(a, tokens) / per_token(b, tokens)
    return _positive(value, [a, b], seed, lambda w, a, b: (w * a).sum(axis=1) / (w * b).sum(axis=1))


def exponential(estimate: Estimate) -> Estimate:
    """Return exp of an estimate: the perplexity of a mean nll, the ratio of perplexities of a difference."""
    ends = [None if end is None else float(np.exp(end)) for end in (estimate.low, estimate.high)]
    return Estimate(float(np.exp(estimate.value)), *ends)


def reading(estimate: Estimate | None, neutral: float = 0.0) -> str:
    """Return one word for a paired KL: better, worse, within noise, identical (no window differs), or nothing."""
    if estimate is None:
        return ""
    if estimate == Estimate(neutral, neutral, neutral):
        return IDENTICAL
    return {-1: "better", 0: "within noise", 1: "worse"}[estimate.side(neutral)]


def task_mean_ratio(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], seed: int = 0) -> Estimate:
    """Return the mean accuracy over tasks of ``a`` over that of ``b``; items are resampled within their task, paired.

    ``a`` and ``b`` hold per task 0/1 (or means over seeds) [items], in the same order of items. Without a right answer
    in ``b`` the ratio is NaN.
    """
    rng = np.random.default_rng(seed)
    tops, bottoms = [], []
    for task in sorted(a):
        weights = rng.multinomial(len(a[task]), np.full(len(a[task]), 1 / len(a[task])), size=DRAWS)
        tops.append(weights @ a[task] / len(a[task]))
        bottoms.append(weights @ b[task] / len(b[task]))
    below = float(np.mean([b[t].mean() for t in b]))
    if below == 0:
        return Estimate(float("nan"))
    value = float(np.mean([a[t].mean() for t in a])) / below
    top, bottom = np.mean(tops, axis=0), np.mean(bottoms, axis=0)
    drawn = bottom > 0  # a draw of a handful of items may hold no right answer at all
    if min(len(values) for values in a.values()) < 2 or not drawn.any():
        return Estimate(value)
    return with_ends(value, top[drawn] / bottom[drawn], TAIL)
