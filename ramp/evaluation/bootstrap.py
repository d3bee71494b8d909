"""Intervals over evaluation windows: block bootstrap, paired between rows. numpy only.

A window's sums (tokens, nll, kl) are what is resampled: a window is one block of the block bootstrap (Kuensch
1989), so nothing inside its 2,048 tokens is taken for independent, and windows are spread over the text.
``block`` > 1 draws runs of neighbouring windows instead (circular, Politis and Romano 1992), for windows that
lie side by side in long documents. Intervals are percentiles. With a dozen windows they are somewhat too
narrow, as bootstrap intervals of few units are: the number of windows stands beside every one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ramp.core.errors import RampError

RESAMPLES = 2000
LEVEL = 0.95

Sums = np.ndarray
"""float64 [3] or [resamples, 3]: tokens, nll, kl, summed over windows."""

Statistic = Literal["kl", "ppl"]


class BootstrapError(RampError):
    """Rows that were not evaluated on the same windows, or no window at all."""


class Interval(NamedTuple):
    """A statistic, its 95 % interval (NaN with fewer than two windows) and the number of windows."""

    value: float
    low: float
    high: float
    n: int


def resample(n: int, resamples: int = RESAMPLES, seed: int = 0, block: int = 1) -> np.ndarray:
    """Indices int64 [resamples, n]: circular blocks drawn with replacement, the last one cut to fit."""
    starts = np.random.default_rng(seed).integers(0, n, size=(resamples, math.ceil(n / block)))
    indices = (starts[:, :, None] + np.arange(block)) % n  # (resamples, blocks, block)
    return indices.reshape(resamples, -1)[:, :n]


def sums_by_window(windows: Iterable[Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """Window -> float64 [3] of tokens, nll, kl, from rows of a metrics file or of windows.csv; missing is NaN."""

    def number(value: Any) -> float:
        return float("nan") if value is None else float(value)

    return {int(row["window"]): np.array([number(row[key]) for key in ("tokens", "nll", "kl")]) for row in windows}


def mean_kl(sums: Sums) -> Any:
    """Nats per token."""
    return sums[..., 2] / sums[..., 0]


def perplexity(sums: Sums) -> Any:
    """exp(sum nll / sum tokens); infinite where the exponential overflows."""
    with np.errstate(over="ignore"):
        return np.exp(sums[..., 1] / sums[..., 0])


STATISTICS: dict[str, Callable[[Sums], Any]] = {"kl": mean_kl, "ppl": perplexity}


def paired(
    rows: Sequence[Iterable[Mapping[str, Any]]],
    statistic: Callable[..., Any],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    block: int = 1,
) -> Interval:
    """Bootstrap ``statistic(sums of row 0, sums of row 1, ...)``; each resample draws the same windows of all rows.

    Args:
        rows: per row, its windows: mappings with window, tokens, nll, kl.
        statistic: of float64 [..., 3] sums, one argument per row, over any leading dimensions.

    Raises:
        BootstrapError: no windows, or rows whose windows or token counts differ.
    """
    tables = [sums_by_window(row) for row in rows]
    if not tables or not tables[0]:
        raise BootstrapError("no window to bootstrap: evaluate the row on at least one")
    order = sorted(tables[0])
    for number, other in enumerate(tables[1:], start=1):
        if sorted(other) != order or any(other[w][0] != tables[0][w][0] for w in order):
            raise BootstrapError(
                f"rows 0 and {number} were evaluated on different windows ({len(order)} and {len(other)}): "
                "pair rows of one text, one length and one limit"
            )
    stacked = [np.stack([each[w] for w in order]) for each in tables]  # each [n, 3]
    value = float(statistic(*(each.sum(0) for each in stacked)))
    n = len(order)
    if n < 2:
        return Interval(value, float("nan"), float("nan"), n)
    draws = resample(n, resamples, seed, block)  # (resamples, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.asarray(statistic(*(each[draws].sum(1) for each in stacked)))
        if np.isnan(values).any():  # never an interval over the resamples that happened to be finite
            return Interval(value, float("nan"), float("nan"), n)
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)


def interval(windows: Iterable[Mapping[str, Any]], statistic: Statistic, **options: Any) -> Interval:
    """One row's mean KL (``kl``) or perplexity (``ppl``) with its interval over windows."""
    return paired([windows], STATISTICS[statistic], **options)


def paired_difference(
    a_windows: Iterable[Mapping[str, Any]],
    b_windows: Iterable[Mapping[str, Any]],
    statistic: Statistic = "kl",
    **options: Any,
) -> Interval:
    """How two rows differ on the same windows: KL(a) - KL(b) in nats per token, or the ratio ppl(a) / ppl(b).

    Below 0 (``kl``) or below 1 (``ppl``): a is better. ``options``: ``resamples``, ``seed``, ``block``.
    """
    if statistic == "kl":
        return paired([a_windows, b_windows], lambda a, b: mean_kl(a) - mean_kl(b), **options)

    def ratio(a: Sums, b: Sums) -> Any:  # of the exponents, so that two huge perplexities still have a ratio
        with np.errstate(over="ignore"):
            return np.exp(a[..., 1] / a[..., 0] - b[..., 1] / b[..., 0])

    return paired([a_windows, b_windows], ratio, **options)
