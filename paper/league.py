"""The league as tables, figures and text read it: the allocators at a checkpoint, paired on windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from paper.intervals import mean_interval, paired_difference, paired_ratio
from paper.naming import method_rank, method_title, model_title, variant_title
from paper.study import Study
from ramp.evaluation.bootstrap import Estimate
from ramp.methods.names import BAR
from ramp.records.schema import RUN_NAMES

if TYPE_CHECKING:
    import pandas as pd

LEAGUE_MARK = " (league)"
"""Ends the names of the league's rows in claims.json."""

OWN = "ramp"
"""Our search."""

ABLATED = (OWN, "ramp_paper")
"""Methods whose variants change one switch. A variant of any other method is a rival: another start, say."""


@dataclass(frozen=True)
class Cell:
    """One allocator on one model at one budget and checkpoint, all seeds."""

    rows: pd.DataFrame  # of league.csv
    kl: np.ndarray  # [seeds, windows], held-out sums, nats
    tokens: np.ndarray  # [windows]

    @property
    def held(self) -> Estimate | None:
        """Held-out KL, nats per token; None where a seed has no incumbent."""
        return mean_interval(self.kl, self.tokens) if self.complete else None

    @property
    def complete(self) -> bool:
        """Return whether every seed has an incumbent, scored on every window."""
        return len(self.kl) == len(self.rows) and bool(np.isfinite(self.kl).all()) and self.kl.size > 0

    @property
    def length(self) -> int:
        """Evaluations that the runs were given."""
        return int(self.rows["run_evals"].iloc[0])

    def mean(self, column: str) -> float | None:
        """Return the mean over seeds of a column of league.csv."""
        values = self.rows[column].astype("float64").dropna()
        return float(values.mean()) if len(values) else None


@dataclass(frozen=True)
class Ablation:
    """A variant beside its method: same bank, same budget, runs of one length, read at their last checkpoint."""

    model: str
    budget: float
    variant: str
    base: str
    evals: int
    cell: Cell  # of the variant
    own: Cell  # of the method


class League:
    """The league's records of a study: of every model the runs on one bank, the one with most of its rivals' runs.

    Runs on a model's other banks (of another machine, say) are compared with none of these; they are in views of their
    own, which ablations are taken from.
    """

    def __init__(self, study: Study, banks: Mapping[str, str] | None = None) -> None:
        self.study, self.every = study, study.frame("league")
        self.windows = study.frame("league_windows")
        homes = {model: found[0] for model, found in self.banks.items()} if banks is None else banks
        self.rows = None if self.every is None else _on(self.every, homes)
        self._cells: dict[tuple[str, float, int, str], Cell | None] = {}
        self._views: dict[str, dict[int, League]] = {}
        curves = study.frame("league_curves")
        self.curves = None if curves is None else _on(curves, homes)

    @cached_property
    def banks(self) -> dict[str, list[str]]:
        """Return the banks of every model, that with most runs first; runs of ablations count last.

        Banks of another draw of calibration text come after all others.
        """
        if self.every is None:
            return {}
        rows = self.every.assign(
            rival=[
                not _ablates(name, base) for name, base in self.every[["allocator", "method"]].itertuples(index=False)
            ]
        )
        counts = rows.groupby(["model", "bank"])["rival"].agg(["sum", "size"]).reset_index()
        places = counts[["model", "bank"]].itertuples(index=False, name=None)
        counts["drawn"] = [self.draws.get(place, 0) > 0 for place in places]
        order = ["model", "drawn", "sum", "size", "bank"]
        counts = counts.sort_values(order, ascending=[True, True, False, False, True])
        return {str(model): list(part["bank"]) for model, part in counts.groupby("model")}

    @cached_property
    def draws(self) -> dict[tuple[str, str], int]:
        """Return (model, bank) -> draw of the calibration text that a bank was made of; others are of draw 0."""
        frame = self.study.frame("league_banks")
        rows = [] if frame is None else frame[["model", "bank", "bank_seed"]].itertuples(index=False, name=None)
        return {(str(model), str(bank)): int(draw) for model, bank, draw in rows}

    def over_draws(self, model: str) -> dict[int, League]:
        """Return a view of a model's runs for each draw of its bank: of several banks of one, that with most runs."""
        if model not in self._views:
            banks: dict[int, str] = {}
            for bank in self.banks.get(model, []):
                banks.setdefault(self.draws.get((model, bank), 0), bank)
            self._views[model] = {draw: League(self.study, {model: bank}) for draw, bank in sorted(banks.items())}
        return self._views[model]

    def elsewhere(self, model: str) -> list[League]:
        """Return views of a model's runs on its other banks."""
        return [League(self.study, {model: bank}) for bank in self.banks[model][1:]]

    @property
    def is_there(self) -> bool:
        """Return whether the records hold a league."""
        return self.rows is not None and self.windows is not None

    @cached_property
    def models(self) -> list[str]:
        """Models, sorted."""
        return [] if self.rows is None else sorted(self.rows["model"].unique())

    def _of(self, model: str) -> pd.DataFrame:
        assert self.rows is not None  # asked of models, which there are none of without rows
        return self.rows[self.rows["model"] == model]

    def budgets(self, model: str, allocator: str | None = None) -> list[float]:
        """Return the budgets of a model, ascending."""
        rows = self._of(model)
        rows = rows if allocator is None else rows[rows["allocator"] == allocator]
        return sorted(float(bits) for bits in rows["budget_bits"].unique())

    def checkpoints(self, model: str) -> list[int]:
        """Return the checkpoints of a model's searches; the evaluations of a method without search are none."""
        found: set[int] = set()
        for _, runs in self._of(model).groupby("allocator"):
            found |= {int(evals) for evals in runs[runs["run_evals"].isin(self._reading(runs))]["evals"]}
        return sorted(found)

    def finals(self, model: str) -> list[int]:
        """Return the checkpoints at which runs of a model end, ascending, without the ablations."""
        return self._reading(self._rivals(model))

    def _rivals(self, model: str) -> pd.DataFrame:
        rows = self._of(model)
        return rows[rows["allocator"].isin(self.allocators(model))]

    def headline(self, model: str) -> int:
        """Return the one of these that most searches reach; 0 where there is none."""
        rows = self._rivals(model)
        reach = {evals: rows[rows["evals"] == evals]["allocator"].nunique() for evals in self.finals(model)}
        return max(reach, key=lambda evals: (reach[evals], evals), default=0)

    def level(self, model: str, budget: float, allocator: str) -> float | None:
        """Return the held-out KL of a method without search (one evaluation at most); None for one that searches."""
        assert self.rows is not None  # asked of models, which there are none of without rows
        rows = at(self.rows, model, budget, allocator)
        if rows.empty or rows["spent"].max() > 1 or rows["kl_held"].isna().any():
            return None
        return float(rows["kl_held"].mean())

    def allocators(self, model: str, ablations: bool = False) -> list[str]:
        """Return the allocators of a model in table order: methods and rivals, or the ablations of ours."""
        pairs = self._of(model)[["allocator", "method"]].drop_duplicates().itertuples(index=False)
        chosen = [(name, base) for name, base in pairs if _ablates(name, base) == ablations]
        return _in_order(chosen)

    def rivals(self) -> list[str]:
        """Return methods and rivals of all models in table order."""
        names = {name for model in self.models for name in self.allocators(model)}
        return _in_order([(name, self.method(name)) for name in names])

    def best_rival(self, model: str, evals: int) -> tuple[str, Estimate] | None:
        """Return the rival of least held-out KL at a checkpoint, and our ratio to it, at our budgets."""
        ratios = {name: self.ratio(model, evals, OWN, name) for name in self.allocators(model) if name != OWN}
        found = [(name, ratio) for name, ratio in ratios.items() if ratio is not None]
        return max(found, key=lambda pair: pair[1].value, default=None)

    def title(self, allocator: str) -> str:
        """Return the allocator in words."""
        assert self.every is not None  # asked of its own allocators
        titles = self.every[self.every["allocator"] == allocator]["title"].dropna()
        named = [str(title) for title in titles if str(title)]
        return variant_title(named[0]) if named else method_title(allocator)

    def method(self, allocator: str) -> str:
        """Return the method behind an allocator."""
        assert self.rows is not None  # asked of its own allocators
        return str(self.rows[self.rows["allocator"] == allocator]["method"].iloc[0])

    def cell(self, model: str, budget: float, evals: int, allocator: str) -> Cell | None:
        """Return an allocator at a checkpoint: the shortest run that reaches it; one without search at every one."""
        key = (model, budget, evals, allocator)
        if key not in self._cells:
            self._cells[key] = self._read_cell(*key)
        return self._cells[key]

    def _read_cell(self, model: str, budget: float, evals: int, allocator: str) -> Cell | None:
        assert self.rows is not None  # asked of models, which there are none of without rows
        rows = at(self.rows, model, budget, allocator)
        found = rows[(rows["evals"] == evals) & (rows["run_evals"] >= evals)]
        if found.empty:  # it ended by itself before the first checkpoint
            early = (rows["evals"] < evals) & (rows["evals"] == rows["spent"]) & (rows["run_evals"] > rows["evals"])
            found = rows[early & ~rows["run_evals"].isin(self._reading(rows))]
        if found.empty:
            return None
        found = found[found["run_evals"] == found["run_evals"].min()].sort_values("seed")
        kl, tokens = self._sums(found)
        return Cell(found, kl, tokens)

    def together(self, model: str, budget: float, one: str, other: str) -> tuple[int, Cell, Cell] | None:
        """Return the last checkpoint at which both stand, in runs of one length (a search may plan by it), and both."""
        for evals in reversed(self.checkpoints(model)):
            a, b = self.cell(model, budget, evals, one), self.cell(model, budget, evals, other)
            if a is not None and b is not None and a.length == b.length:
                return evals, a, b
        return None

    def ablations(self) -> list[Ablation]:
        """Return every variant of ours beside its method, model by model, from the bank on which it has most seeds."""
        found: dict[tuple[str, str, float], Ablation] = {}
        for model in self.models:
            for view in (self, *self.elsewhere(model)):
                for variant in view.allocators(model, ablations=True):
                    for budget in view.budgets(model, variant):
                        base = view.method(variant)
                        both = view.together(model, budget, variant, base)
                        before = found.get((model, variant, budget))
                        if both and (before is None or len(before.cell.rows) < len(both[1].rows)):
                            found[model, variant, budget] = Ablation(model, budget, variant, base, *both)
        return sorted(found.values(), key=lambda each: (each.model, *method_rank(each.base), each.variant, each.budget))

    @staticmethod
    def _reading(rows: pd.DataFrame) -> list[int]:
        """Return runs that reach their last checkpoint: their earlier rows are checkpoints, not ends."""
        return sorted(int(run) for run, part in rows.groupby("run_evals") if (part["evals"] == run).any())

    def _sums(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return held-out sums [seeds, windows] and tokens [windows] of some rows of one cell."""
        assert self.windows is not None  # written with league.csv
        named = [*RUN_NAMES, "evals"]
        part = self.windows.merge(rows[named], on=named)
        if part.empty:
            return np.zeros((0, 0)), np.zeros(0)
        table = part.pivot(index="seed", columns="window", values="kl").astype("float64")
        tokens = part.groupby("window")["tokens"].first().loc[table.columns].to_numpy("float64")
        return table.to_numpy(), tokens

    def against(self, a: Cell | None, b: Cell | None) -> Estimate | None:
        """Return the paired difference of held-out KL, nats per token; None unless both have the same windows."""
        if a is None or b is None or not (a.complete and b.complete) or not np.array_equal(a.tokens, b.tokens):
            return None
        return paired_difference(a.kl, b.kl, a.tokens)

    def shared_budgets(self, model: str) -> list[float]:
        """Return the budgets at which every allocator of a model ran; its own budgets where there is none."""
        sets = [set(self.budgets(model, name)) for name in self.allocators(model)]
        return sorted(set.intersection(*sets)) or self.budgets(model)

    def kept_start(self, ablation: Ablation) -> bool:
        """Return whether every seed of a variant ends with the KL of the knapsack of its bank, window by window."""
        (bank,) = ablation.cell.rows["bank"].unique()
        bar = League(self.study, {ablation.model: str(bank)}).cell(ablation.model, ablation.budget, ablation.evals, BAR)
        return bar is not None and bar.complete and all(np.array_equal(row, bar.kl[0]) for row in ablation.cell.kl)

    def ratio(
        self, model: str, evals: int, allocator: str, rival: str = BAR, budgets: Sequence[float] | None = None
    ) -> Estimate | None:
        """Return held-out KL over the rival's, both summed over budgets (its own); None unless all are whole."""
        sums: list[tuple[np.ndarray, np.ndarray]] = []
        tokens = None
        for budget in budgets or self.budgets(model, allocator):
            a, b = self.cell(model, budget, evals, allocator), self.cell(model, budget, evals, rival)
            if a is None or b is None or not (a.complete and b.complete) or not np.array_equal(a.tokens, b.tokens):
                return None
            if sums and (len(sums[0][0]), len(sums[0][1])) != (len(a.kl), len(b.kl)):
                return None
            sums.append((a.kl, b.kl))
            tokens = a.tokens
        if tokens is None:
            return None
        ours, theirs = (np.sum([pair[side] for pair in sums], axis=0) for side in (0, 1))
        return paired_ratio(ours, theirs, tokens)


def at(frame: pd.DataFrame, model: str, budget: float, allocator: str) -> pd.DataFrame:
    """Return the rows of one allocator on one model at one budget."""
    same = (frame["model"] == model) & (frame["allocator"] == allocator)
    return frame[same & ((frame["budget_bits"] - budget).abs() < 1e-9)]


def _ablates(allocator: str, method: str) -> bool:
    """Return whether an allocator is a method of ours with one switch changed, rather than a rival."""
    return allocator != method and method in ABLATED


def _on(frame: pd.DataFrame, banks: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of each model on one bank."""
    return frame[[banks.get(model) == bank for model, bank in frame[["model", "bank"]].itertuples(index=False)]]


def _in_order(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names of (allocator, method behind it) as tables list them."""
    return [name for name, base in sorted(pairs, key=lambda pair: (*method_rank(pair[1]), pair[0]))]


def league_ratios(study: Study, method: str, variants: list[str]) -> list[tuple[str, Estimate, tuple[str, ...]]]:
    """Compare a method with each variant at their last common checkpoint in held-out KL: label, paired ratio, rows.

    A ratio of single seeds has no interval.
    """
    league, found = League(study), []
    for each in league.ablations():
        a, b = each.own, each.cell
        if each.variant not in variants or each.base != method:
            continue
        if a.complete and b.complete and np.array_equal(a.tokens, b.tokens) and b.kl.sum() > 0:
            label = f"KL ratio, {league.title(method)} to {league.title(each.variant)}, league, "
            label += f"{model_title(each.model)}, {each.budget:g} bits, {each.evals:,} evaluations"
            more = (a.mean("bytes_linear") or 1.0) / (b.mean("bytes_linear") or 1.0) - 1
            bytes_ = f"{100 * abs(more):.1f} % {'more' if more > 0 else 'fewer'} bytes"
            label += f", with {bytes_}" if abs(more) >= 5e-4 else ""
            ratio = paired_ratio(a.kl, b.kl, a.tokens)
            if min(len(a.kl), len(b.kl)) < 2:  # windows do not measure the spread over seeds
                ratio, label = Estimate(ratio.value), f"{label}, one seed"
            rows = tuple(f"{each.model}/{name}-b{each.budget:g}{LEAGUE_MARK}" for name in (method, each.variant))
            found.append((label, ratio, rows))
    return found
