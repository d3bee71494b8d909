"""Intervals of the paper's comparisons: windows (and seeds) of perplexity and KL, items of tasks. numpy only.

Windows are drawn as in ``ramp.evaluation.bootstrap``, so that one seed gives the interval that the records hold; seeds
are resampled too, where a row has several, and items of tasks within their task. Two rows are compared on the same
resampled windows, so that what makes a window hard for both cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from ramp.evaluation.bootstrap import RESAMPLES as DRAWS
from ramp.evaluation.bootstrap import Estimate, resample, with_ends

TAIL = 0.025
"""Share of the draws below an interval; ``ramp.evaluation.bootstrap.TAIL`` differs from it in the last bit."""

Draw = Callable[[np.ndarray], np.ndarray]
"""Sums [seeds, windows] -> their means over resampled seeds, [DRAWS, windows]."""


def _over_windows(
    value: float, n_windows: int, seed: int, statistic: Callable[[np.ndarray, Draw], np.ndarray]
) -> Estimate:
    """Return ``value`` with its interval; ``statistic`` as in ``_drawn``."""
    return with_ends(value, _drawn(n_windows, seed, statistic), TAIL) if n_windows > 1 else Estimate(value)


def _drawn(n_windows: int, seed: int, statistic: Callable[[np.ndarray, Draw], np.ndarray]) -> np.ndarray:
    """Return the statistic of every draw, [DRAWS].

    statistic: of the windows' weights [DRAWS, windows] and of a function that resamples the seeds of sums [seeds,
        windows], to [DRAWS, windows]; one seed is no source of spread.
    """
    rng = np.random.default_rng(seed)
    places = resample(n_windows, DRAWS, seed) + n_windows * np.arange(DRAWS)[:, None]
    weights = np.bincount(places.ravel(), minlength=places.size).reshape(places.shape).astype(float)

    def seed_means(sums: np.ndarray) -> np.ndarray:
        n = len(sums)
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) if n > 1 else np.ones((DRAWS, 1))
        return drawn @ sums / n

    return statistic(weights, seed_means)


def per_token(sums: np.ndarray, tokens: np.ndarray) -> float:
    """Return the mean over seeds of sum over windows / tokens; ``sums`` [seeds, windows], ``tokens`` [windows]."""
    return float(sums.mean(axis=0).sum() / tokens.sum())


def mean_interval(sums: np.ndarray, tokens: np.ndarray, seed: int = 0) -> Estimate:
    """Return the per-token mean of one row (nll or KL) with its interval; shapes as in ``per_token``."""
    value = per_token(sums, tokens)
    return _over_windows(value, len(tokens), seed, lambda w, mean: (w * mean(sums)).sum(axis=1) / (w @ tokens))


def paired_difference(a: np.ndarray, b: np.ndarray, tokens: np.ndarray, seed: int = 0) -> Estimate:
    """Return the per-token mean of ``a`` [seeds_a, windows] minus that of ``b`` [seeds_b, windows], paired."""
    value = per_token(a, tokens) - per_token(b, tokens)
    return _over_windows(value, len(tokens), seed, _difference(a, b, tokens))


def _difference(a: np.ndarray, b: np.ndarray, tokens: np.ndarray) -> Callable[[np.ndarray, Draw], np.ndarray]:
    return lambda w, mean: (w * (mean(a) - mean(b))).sum(axis=1) / (w @ tokens)


def standard_error(a: np.ndarray, b: np.ndarray, tokens: np.ndarray, seed: int = 0) -> float:
    """Return the bootstrap's standard error of ``paired_difference``, in its unit; NaN with a single window.

    a: float [seeds_a, windows]; b: [seeds_b, windows]; tokens: int [windows].
    """
    return float(np.std(_drawn(len(tokens), seed, _difference(a, b, tokens)))) if len(tokens) > 1 else float("nan")


def p_value(value: float, error: float) -> float:
    """Return how likely so large a paired difference is if there is none: two-sided, of a normal with this error.

    Shares of draws beyond 0 would end at 1 / DRAWS, too coarse to correct for many comparisons. NaN without an error;
    0 differences are certain (1).
    """
    if value == 0:
        return 1.0
    return math.erfc(abs(value) / error / math.sqrt(2)) if error > 0 else float("nan")


def detectable(error: float) -> float:
    """Return the smallest true difference that is found four times of five: two-sided at 5 %, of a normal.

    It does not look at the difference that was found: J. M. Hoenig and D. M. Heisey, The American Statistician 55
    (2001), on why it should not.
    """
    return (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) * error


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
    return _over_windows(
        value, len(tokens), seed, lambda w, mean: (w * mean(a)).sum(axis=1) / (w * mean(b)).sum(axis=1)
    )


def exponential(estimate: Estimate) -> Estimate:
    """Return exp of an estimate: the perplexity of a mean nll, the ratio of perplexities of a difference."""
    ends = [None if end is None else float(np.exp(end)) for end in (estimate.low, estimate.high)]
    return Estimate(float(np.exp(estimate.value)), *ends)


def reading(estimate: Estimate | None, neutral: float = 0.0) -> str:
    """Return one word for a paired KL: better, worse, within noise, or nothing."""
    if estimate is None:
        return ""
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
