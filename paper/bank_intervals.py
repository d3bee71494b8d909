"""Intervals over banks: banks are resampled, search seeds within a bank, and windows, the same for both methods.

A bank is one draw of calibration text; rows of one bank share its rounding, so that banks, not rows, are what can be
resampled as independent. Windows are the same held-out ones on every bank: a resample draws them once for all banks.

Of few banks a percentile interval is too narrow: with n of them its spread lacks a factor sqrt(n / (n - 1)), and its
tails are those of a normal distribution where Student's are due. The percentiles are therefore widened to
Phi(-sqrt(n / (n - 1)) t_{n-1}) (T. Hesterberg, "What Teachers Should Know about the Bootstrap", The American
Statistician 69(4), 2015: the expanded percentile interval); with two banks that is the whole range of the resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from paper.intervals import reading
from ramp.evaluation.bootstrap import TAIL, Estimate, with_ends

DRAWS = 10_000
"""Resamples: the widened percentiles of five banks lie near 0.1 and 99.9."""

LEAST_BANKS = 5
"""Banks below which no reading is given: an interval of resamples is at most the range of the banks, and the range of n
draws holds their median with a chance of 1 - 2^(1-n): 50 % of two, 94 % of five."""

FEW_BANKS = "few banks"

Rows = Sequence[np.ndarray]
"""One method over banks: per bank float64 [seeds, windows], KL summed over a window's tokens, nats."""


@dataclass(frozen=True)
class OverBanks:
    """A number over banks with its interval, and over what the interval runs."""

    estimate: Estimate
    banks: int
    seeds: tuple[int, ...]  # seeds within a bank, each count once
    windows: int

    def side(self, limit: float) -> int:
        """Return the side of ``limit`` on which the whole interval lies; 0 across it, or of too few banks."""
        return self.estimate.side(limit) if self.banks >= LEAST_BANKS else 0

    @property
    def reading(self) -> str:
        """One word for a ratio: better, worse or within noise; that banks are few; nothing of one bank."""
        if self.banks < LEAST_BANKS:
            return FEW_BANKS if self.banks > 1 else ""
        return reading(self.estimate, 1.0)

    @property
    def runs_over(self) -> str:
        """Return what the interval runs over, with counts; of one bank, that it does not run over banks."""
        seeds = " or ".join(str(count) for count in self.seeds)
        plural = "" if self.seeds == (1,) else "s"
        if self.banks < 2:
            return f"1 bank, without an interval over banks, {seeds} search seed{plural}, {self.windows} windows"
        return f"{self.banks} banks, {seeds} search seed{plural} on each, {self.windows} windows"


def tail(banks: int) -> float:
    """Return the share of resamples below the lower end of a 95 % interval over so many banks."""
    return float(stats.norm.cdf(np.sqrt(banks / (banks - 1)) * stats.t.ppf(TAIL, banks - 1)))


def resampled(rows: Rows, banks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return sums over resampled banks of the means over resampled seeds: [draws, windows].

    banks: int [draws, n], the banks of every resample; a bank that is drawn twice has its seeds drawn twice.
    """
    total = np.zeros((len(banks), rows[0].shape[1]))
    for slot in banks.T:
        for bank, sums in enumerate(rows):
            (draws,) = np.nonzero(slot == bank)
            n = len(sums)
            seeds = rng.multinomial(n, np.full(n, 1 / n), size=len(draws)) if n > 1 else np.ones((len(draws), 1))
            total[draws] += seeds @ sums / n
    return total


def _means(rows: Rows) -> np.ndarray:
    """Return the mean over banks of the means over seeds: [windows]."""
    return np.mean([sums.mean(axis=0) for sums in rows], axis=0)


def _over_banks(value: float, rows: Rows, below: Rows | np.ndarray, seed: int) -> OverBanks:
    """Return ``value`` with its interval: the resampled sums of ``rows`` over those of ``below``.

    below: another method's rows, or the windows' tokens [windows], which no bank changes.
    """
    counts = {len(sums) for sums in rows} if isinstance(below, np.ndarray) else {len(s) for s in [*rows, *below]}
    n, windows = len(rows), rows[0].shape[1]
    about = (n, tuple(sorted(counts)), windows)
    if n < 2:
        return OverBanks(Estimate(value), *about)
    return OverBanks(with_ends(value, resamples(rows, below, seed), tail(n)), *about)


def resamples(rows: Rows, below: Rows | np.ndarray, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """Return the statistic of every resample: [draws]."""
    rng = np.random.default_rng(seed)
    n, windows = len(rows), rows[0].shape[1]
    banks = rng.integers(0, n, size=(draws, n))
    weights = rng.multinomial(windows, np.full(windows, 1 / windows), size=draws)  # [draws, windows]
    top = (weights * resampled(rows, banks, rng)).sum(axis=1)
    if isinstance(below, np.ndarray):
        return np.asarray(top / (n * (weights @ below)))
    return np.asarray(top / (weights * resampled(below, banks, rng)).sum(axis=1))


def level_over_banks(rows: Rows, tokens: np.ndarray, seed: int = 0) -> OverBanks:
    """Return the KL per token of one method, the mean over banks; ``tokens`` [windows]."""
    return _over_banks(float(_means(rows).sum() / tokens.sum()), rows, tokens, seed)


def ratio_over_banks(rows: Rows, rival: Rows, seed: int = 0) -> OverBanks:
    """Return the KL of one method over that of another on the same banks and windows: a ratio of means over banks."""
    return _over_banks(float(_means(rows).sum() / _means(rival).sum()), rows, rival, seed)


def spread_over_banks(rows: Rows) -> float | None:
    """Return the standard deviation over banks of the mean KL, as a share of its mean; None of one bank."""
    if len(rows) < 2:
        return None
    means = np.array([sums.mean(axis=0).sum() for sums in rows])
    return float(means.std(ddof=1) / means.mean())
