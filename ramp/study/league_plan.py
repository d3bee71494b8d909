"""Runs of the league and of the exact optimum: the study's ``league``, ``optimum`` and ``variants`` as lists.

A run is one search: model, allocator (a method or a variant of one), budget, evaluations, seed. It is read at all its
checkpoints, so that a league has one search where a table has three rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ramp.study.config_sections import Grid, League, Optimum, Places, Search
from ramp.study.record_files import Taken
from ramp.study.row_names import PlanError, bits

if TYPE_CHECKING:
    from ramp.study.planned_rows import Plan


@dataclass(frozen=True)
class LeagueRun:
    """One search of the league: its file is ``{model}/{allocator}/{budget}/{evals}/{seed}.json``."""

    model: str
    allocator: str
    budget: str  # as written in names: "3.65"
    evals: int
    seed: int


def braced(names: Iterable[str]) -> str:
    """Return one word for ``names``, in their order: a, or {a,b}."""
    names = list(names)
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"


def run_words(folder: str, runs: Iterable[LeagueRun]) -> list[str]:
    """Return words that ``ramp.records.collect_league`` expands to the runs' files below ``folder``, each file once.

    A command is one argument to the kernel, 128 KB at most, and a league has more names than that: runs that differ in
    seed alone share a word, and so do budgets that have the same seeds.
    """
    seeds: dict[tuple[str, str, int, str], list[str]] = {}
    for run in runs:
        seeds.setdefault((run.model, run.allocator, run.evals, run.budget), []).append(str(run.seed))
    budgets: dict[tuple[str, str, int, tuple[str, ...]], list[str]] = {}
    for (model, allocator, evals, budget), found in seeds.items():
        budgets.setdefault((model, allocator, evals, tuple(found)), []).append(budget)
    return [
        f"{folder}/{model}/{allocator}/{braced(found)}/{evals}/{braced(each)}.json"
        for (model, allocator, evals, each), found in budgets.items()
    ]


@dataclass(frozen=True)
class LeaguePlan:
    """All names that the league's rules need."""

    plan: Plan

    def check(self) -> None:
        """Raise ``PlanError`` for faults that only loaded methods show."""
        _ = self.named
        optimum = [self.plan.study.optimum] if self.plan.study.optimum else []
        for model in self.models:
            grids = [grid for grid in self.section.grids.values() if model in grid.models]
            if len({self.heldout(grid) for grid in grids}) > 1:
                raise PlanError(f"league: grids name different held-out windows of {model}: give it one 'heldout'")
            sharing: list[Grid | Optimum] = [*grids, *(problem for problem in optimum if model in problem.models)]
            banks = {self.plan.bank_of(name) for each in sharing for name in each.methods}
            if len(banks) > 1:
                raise PlanError(
                    f"league: allocators on {model} use the banks {', '.join(sorted(banks))}: a league has one bank"
                )

    @property
    def section(self) -> League:
        """The league's section; without blocks where the study has none."""
        return self.plan.study.league or League.model_construct(grids={})

    @cached_property
    def named(self) -> dict[LeagueRun, str]:
        """Every run with the grid that it stands in, in the order of the configuration."""
        found: dict[LeagueRun, str] = {}
        for name, grid in self.section.grids.items():
            for run in self._runs_of(grid):
                if run in found:
                    raise PlanError(
                        f"league: grids '{found[run]}' and '{name}' both hold {run.allocator} on {run.model} at "
                        f"{run.budget} bits, {run.evals} evaluations, seed {run.seed}: keep one"
                    )
                found[run] = name
        return found

    @property
    def runs(self) -> list[LeagueRun]:
        """Every run, in the order of the configuration."""
        return list(self.named)

    @property
    def collected(self) -> list[LeagueRun]:
        """Every run; with ``partial`` those that are there."""
        return [run for run in self.runs if not self.section.partial or Path(self.file(run)).is_file()]

    def file(self, run: LeagueRun) -> str:
        """Return the file of a run."""
        folder = f"{self.plan.study.results}/league"
        return f"{folder}/{run.model}/{run.allocator}/{run.budget}/{run.evals}/{run.seed}.json"

    def files(self) -> list[Taken]:
        """Return the runs' files; with ``partial`` they are taken as they are."""
        return [(self.file(run), self.section.partial) for run in self.collected]

    def _runs_of(self, grid: Grid) -> list[LeagueRun]:
        return [
            LeagueRun(model, name, bits(budget), grid.checkpoints[-1], seed)
            for model in grid.models
            for name in self.plan.able(grid.methods)
            for budget in grid.budgets
            for seed in self.plan.seeds(name, grid.seeds)
        ]

    @property
    def models(self) -> list[str]:
        """Models of the league and of the optimum."""
        named = [model for grid in self.section.grids.values() for model in grid.models]
        return list(dict.fromkeys([*named, *(self.plan.study.optimum.models if self.plan.study.optimum else [])]))

    def heldout(self, grid: Grid) -> Places:
        """Return the held-out windows of the runs of a block."""
        return grid.heldout or self.section.heldout

    def search(self, grid: Grid | None = None) -> Search:
        """Return the search and selection text of runs: their block's own, the league's, or the study's."""
        return (grid.search if grid else None) or self.section.search or self.plan.study.search

    @property
    def optimum(self) -> Optimum:
        """The exact optimum's section; ``PlanError`` where the study has none."""
        if self.plan.study.optimum is None:
            raise PlanError("the configuration has no section 'optimum': config/league.yaml has an example")
        return self.plan.study.optimum.model_copy(update={"methods": self.plan.able(self.plan.study.optimum.methods)})

    @property
    def problem_name(self) -> str:
        """Name of the enumerated problems: ``halves-8``."""
        return f"{self.optimum.units}-{self.optimum.count}"

    def bank(self) -> str:
        """Return the bank that the optimum enumerates: the plan checks that its allocators share one."""
        return self.plan.bank_of(self.optimum.methods[0])

    def fold(self) -> str:
        """Return the fold of that bank."""
        return str(self.plan.fold_of(self.optimum.methods[0]))
