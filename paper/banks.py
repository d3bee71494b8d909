"""Rows over banks as tables read them: each method on every bank, its own allocation or one allocation on all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from paper.bank_intervals import OverBanks, level_over_banks, ratio_over_banks, spread_over_banks
from paper.evidence import little_text
from paper.league import League
from paper.naming import method_rank, method_title, model_title, variant_title
from paper.study import Study
from paper.words import listed, plural
from ramp.methods.names import BAR
from ramp.records.bank_ratios import check_one_depth

if TYPE_CHECKING:
    import pandas as pd

ByBank = dict[int, np.ndarray]
"""Bank -> float64 [seeds, windows], KL summed over a window's tokens, nats."""


class Banks:
    """The rows over banks of a study; no models where there are none. Rows without a finite KL are left out.

    Raises:
        RampError: rows of one model that were scored on other windows, or in another dtype.
    """

    def __init__(self, study: Study) -> None:
        self.rows, windows = study.frame("banks"), study.frame("banks_windows")
        self.windows = None if self.rows is None else windows
        check_one_depth([] if self.rows is None else self.rows.to_dict("records"))

    @cached_property
    def models(self) -> list[str]:
        """Models, sorted."""
        return [] if self.windows is None else sorted(self.windows["model"].unique())

    def budgets(self, model: str) -> list[float]:
        """Return the budgets of a model, ascending."""
        assert self.rows is not None  # asked of models, which there are none of without rows
        return sorted(float(bits) for bits in self.rows[self.rows["model"] == model]["budget_bits"].unique())

    def methods(self, model: str, budget: float) -> list[str]:
        """Return the methods of a model at a budget in table order."""
        rows = self._at(self.rows, model, budget)
        return sorted(rows["method"].unique(), key=method_rank)

    def title(self, method: str) -> str:
        """Return a method in words."""
        assert self.rows is not None  # asked of its own methods
        titles = [str(title) for title in self.rows[self.rows["method"] == method]["title"] if title]
        return variant_title(titles[0]) if titles else method_title(method)

    def sums(self, model: str, budget: float, method: str, *, one_allocation: bool = False) -> ByBank:
        """Return a method's window sums on every bank, of its own allocations or of that of bank 0 on all of them."""
        rows = self._at(self.windows, model, budget)
        rows = rows[rows["method"] == method]
        if one_allocation:
            rows = rows[rows["allocation_bank"] == 0]
            elsewhere = rows[rows["bank_seed"] != 0]["search_seed"].unique()
            rows = rows[rows["search_seed"].isin(elsewhere)]
        else:
            rows = rows[rows["allocation_bank"] == rows["bank_seed"]]
        found = {}
        for bank, part in rows.groupby("bank_seed"):
            table = part.pivot(index="search_seed", columns="window", values="kl").astype("float64")
            table = table[np.isfinite(table).all(axis=1)]
            if len(table):
                found[int(str(bank))] = table.to_numpy()
        return found

    def level(self, model: str, budget: float, method: str, rival: str = BAR) -> OverBanks | None:
        """Return a method's KL per token over the banks of ``ratio``, over its own where the rival shares none.

        None without a row.
        """
        ours, theirs = self.sums(model, budget, method), self.sums(model, budget, rival)
        rows = [ours[bank] for bank in sorted(ours.keys() & theirs.keys() or ours)]
        return level_over_banks(rows, self._tokens(model)) if rows else None

    def sides(self, model: str, budget: float, method: str, rival: str = BAR) -> list[int]:
        """Return for every bank that both have whether a method's KL is lower (-1), the rival's own (0) or higher."""
        ours, theirs = self.sums(model, budget, method), self.sums(model, budget, rival)
        return [side_on_bank(ours[bank], theirs[bank]) for bank in sorted(ours.keys() & theirs.keys())]

    def ratio(self, model: str, budget: float, method: str, rival: str = BAR) -> OverBanks | None:
        """Return a method's KL over that of a rival on the banks that both have; None where they share none."""
        if model not in self.models:
            return None
        ours, theirs = self.sums(model, budget, method), self.sums(model, budget, rival)
        shared = sorted(set(ours) & set(theirs))
        if method == rival or not shared:
            return None
        found = ratio_over_banks([ours[bank] for bank in shared], [theirs[bank] for bank in shared])
        return replace(found, little_text=bool(little_text(found.windows, self.length(model))))

    def spread(self, model: str, budget: float, method: str, *, one_allocation: bool = False) -> float | None:
        """Return the standard deviation of a method's KL over banks as a share of its mean; None of one bank.

        With ``one_allocation`` it is that of rounding and text alone: the widths are the same, the banks are not.
        """
        return spread_over_banks(list(self.sums(model, budget, method, one_allocation=one_allocation).values()))

    def _tokens(self, model: str) -> np.ndarray:
        assert self.windows is not None  # asked of models, which there are none of without windows
        rows = self.windows[self.windows["model"] == model]
        return rows.groupby("window")["tokens"].first().to_numpy("float64")

    def length(self, model: str) -> int:
        """Return the tokens of a window of the model's rows."""
        return int(self._tokens(model).mean()) + 1  # the first one is not predicted

    @staticmethod
    def _at(frame: pd.DataFrame | None, model: str, budget: float) -> pd.DataFrame:
        assert frame is not None  # asked of models, which there are none of without rows
        return frame[(frame["model"] == model) & ((frame["budget_bits"] - budget).abs() < 1e-9)]


def side_on_bank(ours: np.ndarray, theirs: np.ndarray) -> int:
    """Return the sign of our mean KL less theirs on one bank; sums [seeds, windows]. 0: every seed kept its start."""
    if all(np.array_equal(row, theirs[0]) for row in (*ours, *theirs)):
        return 0
    return int(np.sign(ours.mean(axis=0).sum() - theirs.mean(axis=0).sum()))


def league_over_banks(league: League, model: str, budget: float, evals: int, allocator: str) -> OverBanks | None:
    """Return an allocator's held-out KL over the knapsack's at a checkpoint, over the draws that have both.

    None of fewer than two draws: the league's own tables have those.
    """
    ours, theirs, lengths = [], [], [0]
    views = league.over_draws(model)
    for view in views.values() if len(views) > 1 else ():
        own, bar = (view.cell(model, budget, evals, name) for name in (allocator, BAR))
        if own and bar and own.complete and bar.complete and np.array_equal(own.tokens, bar.tokens):
            ours.append(own.kl)
            theirs.append(bar.kl)
            lengths.append(int(own.tokens.mean()) + 1)  # the first token of a window is not predicted
    if len(ours) < 2 or len({sums.shape[1] for sums in ours}) > 1:
        return None
    found = ratio_over_banks(ours, theirs)
    return replace(found, little_text=bool(little_text(found.windows, max(lengths))))


def spread_notes(study: Study, models: Iterable[str]) -> list[str]:
    """Return the spread over banks of final rows of several models, a footnote each; none where none is known."""
    found = [(model, spread_note(study, model)) for model in models]
    return [f"{model_title(model)}. {note}" for model, note in found if note]


def spread_note(study: Study, model: str) -> str:
    """Return the spread over banks of a model's final rows as a sentence; nothing where none is known."""
    banks, found, counts = Banks(study), [], list[int]()
    for budget in banks.budgets(model) if model in banks.models else []:
        for method in banks.methods(model, budget):
            rows = list(banks.sums(model, budget, method, one_allocation=True).values())
            spread = spread_over_banks(rows)
            if spread is not None:
                counts.append(len(rows))
                windows = plural(rows[0].shape[1], "window")
                where = f"{banks.title(method)}, {budget:g} bits, {len(rows)} banks, {windows}"
                found.append(f"{100 * spread:.1f} % of the KL ({where})")
    if not found:
        return ""
    free = min(counts) - 1
    low, high = ((free / float(stats.chi2.ppf(share, free))) ** 0.5 for share in (0.975, 0.025))
    return (
        "Spread over banks: one allocation, quantized again on calibration text that was drawn anew, has a standard "
        f"deviation of {listed(found)}, known from so few within a factor of {low:.1f} to {high:.1f}. It is that of a "
        "KL, not of a difference between rows of one bank. Intervals of this table are of one bank and do not hold it."
    )
