"""Evaluations to equal quality: when each search of the league first has a given KL on search text, seed by seed.

Two levels: that of the Fisher knapsack, which needs no search, and PPO's, the KL that PPO ends with in its worst seed,
so that PPO itself reaches it in every seed. A seed that never gets there is "never"; no number replaces it.
Numbers are read from the anytime curves, which are thinned to log-spaced moments: they are upper bounds, and the true
one lies above the last point that was kept before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from paper.intervals import DRAWS, TAIL
from paper.league import LEAGUE_MARK, League, at
from paper.naming import LEARNED_RIVALS, RAMP_METHODS, model_title
from paper.study import Study
from ramp.evaluation.bootstrap import Estimate, with_ends
from ramp.methods.names import BAR

if TYPE_CHECKING:
    import pandas as pd

RIVAL = "ppo"
LEARNERS = (*LEARNED_RIVALS, *RAMP_METHODS)
"""The allocators that learn."""

NEVER = math.inf


@dataclass(frozen=True)
class Reach:
    """Evaluations at which an allocator's seeds reach a level: infinite where one never does."""

    evals: np.ndarray  # [seeds], evaluations on search text
    tokens: np.ndarray  # [seeds], forward tokens up to there, sensitivities included
    allowed: int  # evaluations that every run had
    by_start: bool  # all seeds have it by their warm start

    @property
    def reached(self) -> int:
        """Seeds that get there."""
        return int(np.isfinite(self.evals).sum())


class EqualQuality:
    """The league's curves of one study."""

    def __init__(self, study: Study) -> None:
        self.league = League(study)
        self.curves = self.league.curves if self.league.is_there else None

    def runs(self, model: str, budget: float, allocator: str) -> tuple[dict[int, pd.DataFrame], int]:
        """Return every seed's curve of an allocator's longest runs (empty: never feasible), and their length."""
        rows = self.league.rows
        if rows is None or self.curves is None:
            return {}, 0
        rows = at(rows, model, budget, allocator)
        if rows.empty:
            return {}, 0
        allowed = int(rows["run_evals"].max())
        points = at(self.curves, model, budget, allocator)
        points = points[points["run_evals"] == allowed].sort_values("evals")
        points = points.astype(dict.fromkeys(("evals", "tokens", "kl_search"), "float64"))
        seeds = sorted(int(seed) for seed in rows[rows["run_evals"] == allowed]["seed"].unique())
        return {seed: points[points["seed"] == seed] for seed in seeds}, allowed

    def level(self, model: str, budget: float, reference: str) -> float | None:
        """Return the KL on search text: of the knapsack its own, of a search the end of its worst seed; or None."""
        if reference == BAR and self.league.rows is not None:
            found = at(self.league.rows, model, budget, BAR)["kl_search"].astype("float64").dropna()
            return float(found.iloc[0]) if len(found) else None
        runs, _ = self.runs(model, budget, reference)
        ends = [float(run["kl_search"].min()) for run in runs.values()]  # of no points: NaN
        return max(ends) if ends and all(map(math.isfinite, ends)) else None

    def reach(self, model: str, budget: float, allocator: str, level: float) -> Reach | None:
        """Return when each seed of an allocator is first at ``level`` or below; None where it has no runs."""
        runs, allowed = self.runs(model, budget, allocator)
        if not runs:
            return None
        evals, tokens, starts = [], [], []
        for points in runs.values():
            there = points[points["kl_search"] <= level * (1 + 1e-9)]
            first = there.iloc[0] if len(there) else None
            evals.append(NEVER if first is None else float(first["evals"]))
            tokens.append(NEVER if first is None else float(first["tokens"]))
            starts.append(first is not None and bool(first["is_start"]))
        return Reach(np.array(evals), np.array(tokens), allowed, all(starts))


LEAST = 4
"""Seeds a side below which ``sooner`` has no interval: three against three are apart by chance in 2 of 20 cases, four
against four in 2 of 70, and a bootstrap would call either certain."""


def sooner(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the share of pairs of seeds in which ours is first; a tie, or a pair of which none arrives, is a half.

    ours: float [seeds], evaluations or tokens at which each seed arrives, infinite where it never does; theirs: alike.
    """
    first, tie = ours[:, None] < theirs[None, :], ours[:, None] == theirs[None, :]
    return float((first + 0.5 * tie).mean())


def sooner_interval(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> Estimate:
    """Return ``sooner`` with the interval of resampled seeds; none with fewer than ``LEAST`` seeds on one side."""
    value = sooner(ours, theirs)
    if min(len(ours), len(theirs)) < LEAST:
        return Estimate(value)
    rng = np.random.default_rng(seed)
    draws = [sooner(rng.choice(ours, len(ours)), rng.choice(theirs, len(theirs))) for _ in range(DRAWS)]
    return with_ends(value, draws, TAIL)


def sooner_than(study: Study, methods: list[str], rival: str) -> list[tuple[str, Estimate, tuple[str, ...]]]:
    """Compare every method with ``rival`` on the way to the rival's level: label, share of pairs won, rows."""
    quality, found = EqualQuality(study), []
    for model in quality.league.models:
        for budget in quality.league.budgets(model):
            level = quality.level(model, budget, rival)
            if level is None:
                continue
            theirs = quality.reach(model, budget, rival, level)
            for method in methods:
                ours = quality.reach(model, budget, method, level)
                if ours is None or theirs is None or ours.allowed != theirs.allowed:
                    continue
                titles = [quality.league.title(name) for name in (method, rival)]
                label = f"share of pairs of seeds in which {titles[0]} has {titles[1]}'s search KL first"
                label += f", {model_title(model)}, {budget:g} bits"
                label += f" ({ours.reached} of {len(ours.evals)} seeds get there)"
                rows = tuple(f"{model}/{name}-b{budget:g}{LEAGUE_MARK}" for name in (method, rival))
                found.append((label, sooner_interval(ours.evals, theirs.evals), rows))
    return found
