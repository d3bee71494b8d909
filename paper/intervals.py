"""Paired intervals by the bootstrap: windows (and seeds) for perplexity and KL, items for tasks. Numpy alone.

The window draws are those of ``ramp.evaluation.bootstrap``, so that one seed gives the interval that the records
hold; here seeds are resampled too, where a row has several, and items of tasks within their task. Two rows are
compared on the same resampled windows, so that what makes a window hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ramp.evaluation.bootstrap import RESAMPLES as DRAWS
from ramp.evaluation.bootstrap import resample

TAILS = (2.5, 97.5)
"""Percentiles of the interval's ends."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; the ends are None where one block cannot give an interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def side(self, limit: float) -> int:
        """-1 if the whole interval lies below ``limit``, 1 if above, 0 if it straddles it (or there is none)."""
        if self.low is None or self.high is None:
            return 0
        return -1 if self.high < limit else 1 if self.low > limit else 0


def _window_weights(n_windows: int, rng_seed: int) -> np.ndarray:
    """How often each window is drawn, [DRAWS, n_windows]: the very draws of ``ramp.evaluation.bootstrap``."""
    draws = resample(n_windows, DRAWS, rng_seed) + n_windows * np.arange(DRAWS)[:, None]
    return np.bincount(draws.ravel(), minlength=draws.size).reshape(draws.shape).astype(float)


def _seed_means(sums: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mean over resampled seeds of ``sums`` [seeds, windows], as [DRAWS, windows]; one seed is no source of spread."""
    seeds = len(sums)
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS) if seeds > 1 else np.ones((DRAWS, 1))
    return weights @ sums / seeds


def per_token(sums: np.ndarray, tokens: np.ndarray) -> float:
    """Mean over seeds of sum over windows / tokens; ``sums`` [seeds, windows], ``tokens`` [windows]."""
    return float(sums.mean(axis=0).sum() / tokens.sum())


def mean_interval(sums: np.ndarray, tokens: np.ndarray, seed: int = 0) -> Estimate:
    """Per-token mean of one row (nll or KL) with its interval; shapes as in ``per_token``."""
    value = per_token(sums, tokens)
    if sums.shape[1] < 2:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    weights = _window_weights(sums.shape[1], seed)
    draws = (weights * _seed_means(sums, rng)).sum(axis=1) / (weights @ tokens)
    return Estimate(value, *np.percentile(draws, TAILS).tolist())


def paired_difference(a: np.ndarray, b: np.ndarray, tokens: np.ndarray, seed: int = 0) -> Estimate:
    """Per-token mean of ``a`` [seeds_a, windows] minus that of ``b`` [seeds_b, windows], on the same windows."""
    value = per_token(a, tokens) - per_token(b, tokens)
    if len(tokens) < 2:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    weights = _window_weights(len(tokens), seed)
    gap = _seed_means(a, rng) - _seed_means(b, rng)
    draws = (weights * gap).sum(axis=1) / (weights @ tokens)
    return Estimate(value, *np.percentile(draws, TAILS).tolist())


def paired_ratio(a: np.ndarray, b: np.ndarray, tokens: np.ndarray, seed: int = 0) -> Estimate:
    """Per-token mean of ``a`` over that of ``b`` (positive sums such as KL), on the same windows."""
    value = per_token(a, tokens) / per_token(b, tokens)
    if len(tokens) < 2:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    weights = _window_weights(len(tokens), seed)
    draws = (weights * _seed_means(a, rng)).sum(axis=1) / (weights * _seed_means(b, rng)).sum(axis=1)
    return Estimate(value, *np.percentile(draws, TAILS).tolist())


def exponential(estimate: Estimate) -> Estimate:
    """Of a mean nll its perplexity, of a difference of mean nll the ratio of perplexities (exp is monotone)."""
    ends = [None if end is None else float(np.exp(end)) for end in (estimate.low, estimate.high)]
    return Estimate(float(np.exp(estimate.value)), *ends)


def task_mean_ratio(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], seed: int = 0) -> Estimate:
    """Mean accuracy over tasks of ``a`` over that of ``b``; items are resampled within their task, paired.

    ``a`` and ``b`` hold per task 0/1 (or means over seeds) [items], in the same order of items.
    """
    rng = np.random.default_rng(seed)
    tops, bottoms, smallest = [], [], min(len(values) for values in a.values())
    for task in sorted(a):
        weights = rng.multinomial(len(a[task]), np.full(len(a[task]), 1 / len(a[task])), size=DRAWS)
        tops.append(weights @ a[task] / len(a[task]))
        bottoms.append(weights @ b[task] / len(b[task]))
    below = float(np.mean([b[t].mean() for t in b]))
    if below == 0:  # nothing answered: there is no ratio
        return Estimate(float("nan"))
    value = float(np.mean([a[t].mean() for t in a])) / below
    tops_mean, bottoms_mean = np.mean(tops, axis=0), np.mean(bottoms, axis=0)
    drawn = bottoms_mean > 0  # a draw of a handful of items may hold no right answer at all
    if smallest < 2 or not drawn.any():
        return Estimate(value)
    draws = tops_mean[drawn] / bottoms_mean[drawn]
    return Estimate(value, *np.percentile(draws, TAILS).tolist())
