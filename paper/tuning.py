"""Rows with tuned scales as tables and text read them: each beside itself untuned, mixed rows beside uniform ones.

Ratios of KL are paired: over held-out windows, and over banks where rows were tuned on several, which are then
resampled with their windows (``paper.bank_intervals``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paper.bank_intervals import LEAST_BANKS, OverBanks, Rows, Statistic, interval_over_banks, ratio_of_sums
from paper.intervals import reading
from paper.naming import bits_title, method_rank, method_title, model_title
from paper.study import Study
from paper.words import plural, shown
from ramp.evaluation.bootstrap import TAIL, Estimate, resample, with_ends


@dataclass(frozen=True)
class TunedRow:
    """One row of a model on one or more banks."""

    model: str
    method: str
    budget_bits: float
    mixed: bool
    bytes_linear: int
    tokens: int  # that tuning read
    wall_s: float  # mean over banks
    before: dict[int, np.ndarray]  # bank -> float64 [1, windows], KL summed over a window's tokens, nats
    after: dict[int, np.ndarray]
    window_tokens: np.ndarray  # [windows]

    @property
    def title(self) -> str:
        """Method and bits in words."""
        return f"{method_title(self.method)}, {bits_title(self.budget_bits)} bits"

    def kl(self, tuned: bool) -> float:
        """Return the mean KL per token over its banks, nats."""
        sums = self.after if tuned else self.before
        return float(np.mean([each.sum() for each in sums.values()]) / self.window_tokens.sum())


@dataclass(frozen=True)
class Pair:
    """A mixed row and the smallest uniform row of a method that is at least as large."""

    mixed: TunedRow
    uniform: TunedRow
    before: OverBanks  # KL of the mixed row over that of the uniform one
    after: OverBanks  # the same, both tuned
    change: Estimate  # after / before; below 1 the mixed row gains more from tuning than the uniform one

    @property
    def words(self) -> str:
        """Return what is left of the gain, in one sentence."""
        found = {
            -1: "gains more from tuning than",
            0: "gains as much from tuning, within noise, as",
            1: "gains less from tuning than",
        }
        model, factor = model_title(self.mixed.model), shown(self.change, 3)
        if self.before.banks < LEAST_BANKS:  # one bank may favour either row
            return (
                f"On {model}, over {plural(self.before.banks, 'bank')}, the ratio of KL of {self.mixed.title} to "
                f"{self.uniform.title} changes by a factor of {factor}."
            )
        return (
            f"On {model} {self.mixed.title}, {found[self.change.side(1)]} {self.uniform.title}: their ratio of KL "
            f"changes by a factor of {factor}."
        )


class Tuned:
    """The tuned rows of a study; none where the records have no such table. Rows without a finite KL are left out."""

    def __init__(self, study: Study) -> None:
        frame, windows = study.frame("tuning"), study.frame("tuning_windows")
        self._lines, self._windows = (None, None) if frame is None or windows is None else (frame, windows)
        self._order = study.models

    @cached_property
    def rows(self) -> list[TunedRow]:
        """Every row, by model and then in table order."""
        if self._lines is None or self._windows is None:
            return []
        found = []
        names = ["model", "method", "budget_bits"]
        for name, lines in self._lines.groupby(names):
            windows = self._windows[(self._windows[names] == list(name)).all(axis=1)]
            sums = [self._by_bank(windows[windows["tuned"] == tuned]) for tuned in (False, True)]
            if not sums[0] or sums[0].keys() != sums[1].keys():
                continue
            one = lines.iloc[0]
            tokens = windows.groupby("window")["tokens"].first().to_numpy("float64")
            model, method, budget = name
            found.append(
                TunedRow(
                    str(model), str(method), float(budget), bool(one["mixed"]), int(one["bytes_linear"]),
                    int(one["tokens"]), float(lines["wall_s"].mean()), *sums, tokens,
                )
            )  # fmt: skip
        known = {model: place for place, model in enumerate(self._order)}
        return sorted(found, key=lambda row: (known.get(row.model, len(known)), row.model, row.mixed,
                                              method_rank(row.method), row.budget_bits))  # fmt: skip

    @staticmethod
    def _by_bank(windows: object) -> dict[int, np.ndarray]:
        import pandas

        assert isinstance(windows, pandas.DataFrame)
        found = {}
        for bank, part in windows.groupby("bank_seed"):
            sums = part.sort_values("window")["kl"].to_numpy("float64")[None]
            if np.isfinite(sums).all():
                found[int(str(bank))] = sums
        return found

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every mixed row beside the smallest uniform row of every method that is at least as large."""
        found = []
        for mixed in (row for row in self.rows if row.mixed):
            uniform: dict[str, TunedRow] = {}
            for row in self.rows:
                fits = row.model == mixed.model and not row.mixed and row.bytes_linear >= mixed.bytes_linear
                if fits and (row.method not in uniform or row.bytes_linear < uniform[row.method].bytes_linear):
                    uniform[row.method] = row
            found += [pair for row in uniform.values() if (pair := paired(mixed, row))]
        return found


def _estimate(sides: Sequence[Rows], statistic: Statistic) -> Estimate:
    """Return a statistic with its interval: over banks and windows, or the percentiles over windows of one bank."""
    windows = sides[0][0].shape[1]
    found = interval_over_banks(sides, statistic)
    if len(sides[0]) > 1 or windows < 2:
        return found
    places = resample(windows)
    drawn = statistic(np.ones_like(places), *(bank[0][places] for [bank] in sides))
    return with_ends(found.value, drawn, TAIL)


def _ratio_of_ratios(
    weights: np.ndarray, top: np.ndarray, bottom: np.ndarray, top_before: np.ndarray, bottom_before: np.ndarray
) -> np.ndarray:
    return ratio_of_sums(weights, top, bottom) / ratio_of_sums(weights, top_before, bottom_before)


def ratio(top: dict[int, np.ndarray], bottom: dict[int, np.ndarray]) -> OverBanks | None:
    """Return a ratio of KLs on the banks that both have, with its interval; None where they share none."""
    banks = sorted(top.keys() & bottom.keys())
    if not banks:
        return None
    sides = [[sums[bank] for bank in banks] for sums in (top, bottom)]
    return OverBanks(_estimate(sides, ratio_of_sums), len(banks), (1,), sides[0][0].shape[1])


def paired(mixed: TunedRow, uniform: TunedRow) -> Pair | None:
    """Return both rows before and after tuning; None where they share no bank."""
    before, after = ratio(mixed.before, uniform.before), ratio(mixed.after, uniform.after)
    if before is None or after is None:
        return None
    banks = sorted(mixed.before.keys() & uniform.before.keys())
    sides = [[sums[bank] for bank in banks] for sums in (mixed.after, uniform.after, mixed.before, uniform.before)]
    return Pair(mixed, uniform, before, after, _estimate(sides, _ratio_of_ratios))


def runs_over(found: OverBanks) -> str:
    """Return what an interval runs over."""
    return found.runs_over if found.banks > 1 else f"{plural(found.windows, 'window')} of held-out text on one bank"


def tuning_values(study: Study) -> Iterator[tuple[str, str]]:
    """Yield ``tuning.{rows,tokens,best,worst,runs}`` and a sentence ``tuning.pair.N`` for every mixed row.

    Of several uniform methods, the one with the least KL before tuning stands in the sentence.
    """
    tuned = Tuned(study)
    effects = [found for row in tuned.rows if (found := ratio(row.after, row.before))]
    if not effects:
        return
    ordered = sorted(effects, key=lambda each: each.estimate.value)
    yield "tuning.rows", plural(len(effects), "row")
    yield "tuning.tokens", " or ".join(f"{count:,}" for count in sorted({row.tokens for row in tuned.rows}))
    yield "tuning.best", shown(ordered[0].estimate, 3)
    yield "tuning.worst", shown(ordered[-1].estimate, 3)
    yield "tuning.better", str(sum(reading(each.estimate, 1.0) == "better" for each in effects))
    yield "tuning.runs", "; or ".join(sorted({runs_over(each) for each in effects}))
    strongest: dict[tuple[str, str, float], Pair] = {}
    for pair in tuned.pairs:
        key = (pair.mixed.model, pair.mixed.method, pair.mixed.budget_bits)
        if key not in strongest or pair.uniform.kl(tuned=False) < strongest[key].uniform.kl(tuned=False):
            strongest[key] = pair
    for place, pair in enumerate(strongest.values()):
        yield f"tuning.pair.{place}", pair.words
