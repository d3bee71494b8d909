"""The bootstrap of this project: a number, its 95 % interval, and the draws of windows behind it. numpy only.

A window's sums (tokens, nll, kl) are what is resampled: a window is one block of the block bootstrap (Kuensch 1989), so
nothing inside its 2,048 tokens is taken for independent, and windows are spread over the text. Intervals are
percentiles. With a dozen windows they are somewhat too narrow, as bootstrap intervals of few units are: the number of
windows is recorded with every one. ``paper.intervals`` takes the same draws, and adds seeds and task items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ramp.core.errors import RampError

RESAMPLES = 2000
LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
"""Share of the draws below an interval's lower end."""

Sums = np.ndarray
"""float64 [3] or [resamples, 3]: tokens, nll, kl, summed over windows."""


class BootstrapError(RampError):
    """Rows that were not evaluated on the same windows, or no window at all."""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; the ends are None where one block cannot give an interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def side(self, limit: float) -> int:
        """Return -1 if the whole interval lies below ``limit``, 1 if above, 0 if across it or without an interval."""
        if self.low is None or self.high is None:
            return 0
        return -1 if self.high < limit else 1 if self.low > limit else 0


def resample(n: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return indices of windows drawn with replacement, int64 [resamples, n]."""
    return np.random.default_rng(seed).integers(0, n, size=(resamples, n))


def with_ends(value: float, draws: np.ndarray | list[float], below: float) -> Estimate:
    """Return ``value`` with the percentile interval of ``draws`` [resamples]; ``below``: their share below it."""
    return Estimate(value, *np.quantile(draws, [below, 1 - below]).tolist())


def sums_by_window(windows: Iterable[Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """Return window -> float64 [3] of tokens, nll, kl, from a metrics file or windows.csv; missing is NaN."""
    keys = ("tokens", "nll", "kl")
    return {int(row["window"]): np.array([row[key] for key in keys], dtype=np.float64) for row in windows}


def mean_kl(sums: Sums) -> Any:
    """Return the mean KL in nats per token."""
    return sums[..., 2] / sums[..., 0]


def perplexity(sums: Sums) -> Any:
    """Return exp(sum nll / sum tokens); infinite where the exponential overflows."""
    with np.errstate(over="ignore"):
        return np.exp(sums[..., 1] / sums[..., 0])


def paired(
    rows: Sequence[Iterable[Mapping[str, Any]]],
    statistic: Callable[..., Any],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
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
    if len(order) < 2:
        return Estimate(value)
    draws = resample(len(order), resamples, seed)  # (resamples, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.asarray(statistic(*(each[draws].sum(1) for each in stacked)))
        if np.isnan(values).any():  # never an interval over the resamples that happened to be finite
            return Estimate(value)
        return with_ends(value, values, TAIL)


def interval(windows: Iterable[Mapping[str, Any]], statistic: Literal["kl", "ppl"], **options: Any) -> Estimate:
    """Return one row's mean KL (``kl``) or perplexity (``ppl``) with its interval over windows."""
    return paired([windows], mean_kl if statistic == "kl" else perplexity, **options)
