"""Runs of the league and of the exact optimum: the study's ``league``, ``optimum`` and ``variants`` as lists.

A run is one search: model, allocator (a method or a variant of one), budget, evaluations, seed. It is read at all its
checkpoints, so that a league has one search where a table has three rows.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ramp.methods.kinds import Allocator, Method
from ramp.study.config import Study
from ramp.study.config_sections import Acceptance, Grid, Optimum, Places, Search
from ramp.study.row_names import PlanError, bits
from ramp.study.variants import variant_params


@dataclass(frozen=True)
class LeagueRun:
    """One search of the league: its file is ``{model}/{allocator}/{budget}/{evals}/{seed}.json``."""

    model: str
    allocator: str
    budget: str  # as written in names: "3.65"
    evals: int
    seed: int


def braced(names: Iterable[str]) -> str:
    """Return one word that bash expands to ``names``, in their order: a, or {a,b}."""
    names = list(names)
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"


def run_words(folder: str, runs: Iterable[LeagueRun]) -> str:
    """Return quoted words that bash expands to the runs' files below ``folder``, each file once.

    A command is one argument to the kernel, 128 KB at most, and a league has more names than that: runs that differ in
    seed alone share a word, and so do budgets that have the same seeds.
    """
    seeds: dict[tuple[str, str, int, str], list[str]] = {}
    for run in runs:
        seeds.setdefault((run.model, run.allocator, run.evals, run.budget), []).append(str(run.seed))
    budgets: dict[tuple[str, str, int, tuple[str, ...]], list[str]] = {}
    for (model, allocator, evals, budget), found in seeds.items():
        budgets.setdefault((model, allocator, evals, tuple(found)), []).append(budget)
    return " ".join(
        f"{shlex.quote(folder)}/{model}/{allocator}/{braced(found)}/{evals}/{braced(each)}.json"
        for (model, allocator, evals, each), found in budgets.items()
    )


@dataclass(frozen=True)
class LeaguePlan:
    """All names that the league's rules need."""

    study: Study
    methods: Mapping[str, Method]
    unable: frozenset[str] = frozenset()  # methods that cannot run on this machine: the league leaves them out

    def check(self) -> None:
        """Raise ``PlanError`` or ``MethodError`` for faults that only loaded methods show."""
        for name in self.study.variants:
            self.params(name)
        _ = self.named
        for name in [*self.allocators, *(self.study.optimum.methods if self.study.optimum else [])]:
            self.allocator(name)
        for model in self.models:
            places = {self.heldout(run) for run in self.runs if run.model == model}
            if len(places) > 1:
                raise PlanError(f"league: grids name different held-out windows of {model}: give it one 'heldout'")
            banks = {self.bank_of(name) for name in self.allocators_on(model)}
            if len(banks) > 1:
                raise PlanError(
                    f"league: allocators on {model} use the banks {', '.join(sorted(banks))}: a league has one bank"
                )

    def allocator(self, name: str) -> Allocator:
        """Return the method behind an allocator; ``PlanError`` where it allocates nothing."""
        method = self.methods[self.study.base_of(name)]
        if not isinstance(method, Allocator):
            raise PlanError(f"league: '{name}' is no allocator: it gives every linear one width")
        if not isinstance(method.quantizer, str):
            raise PlanError(f"league: '{name}' brings a quantizer of its own; the bank knows rtn and gptq")
        return method

    def bank_of(self, name: str) -> str:
        """Return the bank that an allocator searches on."""
        method = self.allocator(name)
        return f"{method.fold}-{method.quantizer}"

    def params(self, name: str) -> dict:
        """Return all parameters of an allocator that are not its file's defaults."""
        base = self.study.base_of(name)
        known = self.study.params.get(base, {})
        if name not in self.study.variants:
            return known
        return variant_params(name, self.methods[base], known, self.study.variants[name].params)

    def title(self, name: str) -> str:
        """Return what tables call a variant; nothing for a plain method, which the paper names itself."""
        return (self.study.variants[name].title or name) if name in self.study.variants else ""

    @property
    def grids(self) -> dict[str, Grid]:
        """The league's blocks."""
        return self.study.league.grids if self.study.league else {}

    @property
    def allocators(self) -> list[str]:
        """Every allocator of the league, once."""
        return list(dict.fromkeys(name for grid in self.grids.values() for name in grid.methods))

    def allocators_on(self, model: str) -> list[str]:
        """Return every allocator that the league or the optimum runs on a model, once."""
        names = [name for grid in self.grids.values() if model in grid.models for name in grid.methods]
        if self.study.optimum and model in self.study.optimum.models:
            names += self.study.optimum.methods
        return list(dict.fromkeys(names))

    @cached_property
    def named(self) -> dict[LeagueRun, str]:
        """Every run with the grid that it stands in, in the order of the configuration."""
        found: dict[LeagueRun, str] = {}
        for name, grid in self.grids.items():
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

    def file(self, run: LeagueRun) -> str:
        """Return the file of a run."""
        folder = f"{self.study.results}/league"
        return f"{folder}/{run.model}/{run.allocator}/{run.budget}/{run.evals}/{run.seed}.json"

    @property
    def partial(self) -> bool:
        """Whether runs are collected as they are and none is started."""
        return self.study.league is not None and self.study.league.partial

    @property
    def collected(self) -> list[LeagueRun]:
        """Every run; with ``partial`` those that are there."""
        return [run for run in self.runs if not self.partial or Path(self.file(run)).is_file()]

    def able(self, names: Iterable[str]) -> list[str]:
        """Return the allocators among ``names`` that can run on this machine."""
        return [name for name in names if self.study.base_of(name) not in self.unable]

    def seeds(self, name: str, seeds: list[int]) -> list[int]:
        """Return the seeds of an allocator: one where nothing is drawn."""
        return seeds[:1] if self.study.base_of(name) in self.study.deterministic else seeds

    def _runs_of(self, grid: Grid) -> list[LeagueRun]:
        return [
            LeagueRun(model, name, bits(budget), grid.checkpoints[-1], seed)
            for model in grid.models
            for name in self.able(grid.methods)
            for budget in grid.budgets
            for seed in self.seeds(name, grid.seeds)
        ]

    @property
    def models(self) -> list[str]:
        """Models of the league and of the optimum."""
        named = [model for grid in self.grids.values() for model in grid.models]
        return list(dict.fromkeys([*named, *(self.study.optimum.models if self.study.optimum else [])]))

    def grid_of(self, run: LeagueRun) -> Grid:
        """Return the block of a run."""
        return self.grids[self.named[run]]

    def heldout(self, run: LeagueRun) -> Places:
        """Return the held-out windows of a run."""
        assert self.study.league is not None  # a run has a league
        return self.grid_of(run).heldout or self.study.league.heldout

    def curve_points(self, run: LeagueRun) -> int:
        """Return the number of points of a run's anytime curve."""
        assert self.study.league is not None  # a run has a league
        return self.grid_of(run).curve_points or self.study.league.curve_points

    @property
    def search(self) -> Search:
        """Search and selection text of runs whose grid has none of its own."""
        return (self.study.league.search if self.study.league else None) or self.study.search

    def search_on(self, run: LeagueRun) -> Search:
        """Return the search and selection text of a run."""
        return self.grid_of(run).search or self.search

    @property
    def accept(self) -> Acceptance:
        """The least that rounding must cost a model trained by the workflow."""
        return self.study.league.accept if self.study.league else Acceptance()

    @property
    def optimum(self) -> Optimum:
        """The exact optimum's section; ``PlanError`` where the study has none."""
        if self.study.optimum is None:
            raise PlanError("the configuration has no section 'optimum': config/league.yaml has an example")
        return self.study.optimum.model_copy(update={"methods": self.able(self.study.optimum.methods)})

    @property
    def problem_name(self) -> str:
        """Name of the enumerated problems: ``halves-8``."""
        return f"{self.optimum.units}-{self.optimum.count}"

    @property
    def bank_method(self) -> str:
        """The allocator whose bank the optimum enumerates (the plan checks that the others share it), if any."""
        return next(iter(self.able(self.study.optimum.methods if self.study.optimum else [])), "")
