"""Which runs the league and the exact optimum have: the study's ``league``, ``optimum`` and ``variants`` as lists.

A run is one search: model, allocator (a method or a variant of one), budget, evaluations, seed. It is read at all its
checkpoints, so that a league has one search where a table has three rows.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ramp.assets.registry import Registry
from ramp.methods.kinds import Allocator, Method
from ramp.study.config import Study
from ramp.study.sections import Acceptance, Grid, Optimum, Places, Search
from ramp.study.variants import variant_params


class LeagueError(ValueError):
    """The league asks for something that its methods or models cannot give."""


@dataclass(frozen=True, order=True)
class LeagueRun:
    """One search of the league."""

    model: str
    allocator: str
    budget: str  # as written in names: "3.65"
    evals: int
    seed: int


def braced(names: Iterable[str]) -> str:
    """One word that bash expands to ``names``, in their order: a, or {a,b}."""
    names = list(names)
    return names[0] if len(names) == 1 else "{" + ",".join(names) + "}"


def run_words(folder: str, runs: Iterable[LeagueRun]) -> str:
    """Words that bash expands to the runs' files below ``folder``, each file once.

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


def league_methods(study: Study) -> list[str]:
    """Method files that the league and the optimum need, those behind variants included."""
    named = [name for grid in (study.league.grids.values() if study.league else []) for name in grid.methods]
    named += study.optimum.methods if study.optimum else []
    named += study.variants
    return list(dict.fromkeys(base_of(study, name) for name in named))


def base_of(study: Study, allocator: str) -> str:
    """The method file behind an allocator: its own, or that of the method that it is a variant of."""
    return study.variants[allocator].method if allocator in study.variants else allocator


@dataclass(frozen=True)
class LeaguePlan:
    """All names that the league's rules need."""

    study: Study
    methods: Mapping[str, Method]
    registry: Registry
    unable: frozenset[str] = frozenset()  # methods that cannot run here: the league goes on without them

    def check(self) -> None:
        """Raise ``LeagueError`` or ``MethodError`` for what only loaded methods can tell."""
        for name in self.study.variants:
            self.params(name)
        if self.study.league:
            _ = self.named
        for name in [*self.allocators, *(self.study.optimum.methods if self.study.optimum else [])]:
            self.allocator(name)
        for model in self.models:
            places = {self.heldout(run) for run in self.runs if run.model == model}
            if len(places) > 1:
                raise LeagueError(f"league: grids name different held-out windows of {model}: give it one 'heldout'")
            banks = {self.bank_of(name) for name in self.allocators_on(model)}
            if len(banks) > 1:
                raise LeagueError(
                    f"league: allocators on {model} use the banks {', '.join(sorted(banks))}: a league has one bank"
                )

    def allocator(self, name: str) -> Allocator:
        """The method behind an allocator; ``LeagueError`` where it allocates nothing."""
        method = self.methods[base_of(self.study, name)]
        if not isinstance(method, Allocator):
            raise LeagueError(f"league: '{name}' is no allocator: it gives every linear one width")
        if not isinstance(method.quantizer, str):
            raise LeagueError(f"league: '{name}' brings a quantizer of its own; the bank knows rtn and gptq")
        return method

    def bank_of(self, name: str) -> str:
        """The bank that an allocator searches on."""
        method = self.allocator(name)
        return f"{method.fold}-{method.quantizer}"

    def params(self, name: str) -> dict:
        """All parameters of an allocator that are not its file's defaults."""
        base = base_of(self.study, name)
        known = self.study.params.get(base, {})
        if name not in self.study.variants:
            return known
        return variant_params(name, self.methods[base], known, self.study.variants[name].params)

    def title(self, name: str) -> str:
        """What tables call an allocator; nothing for a plain method, which the paper names itself."""
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
        """Every allocator that the league or the optimum runs on a model, once."""
        names = [name for grid in self.grids.values() if model in grid.models for name in grid.methods]
        if self.study.optimum and model in self.study.optimum.models:
            names += self.study.optimum.methods
        return list(dict.fromkeys(names))

    @cached_property
    def named(self) -> dict[LeagueRun, str]:
        """Every run with the grid that it stands in."""
        found: dict[LeagueRun, str] = {}
        for name, grid in self.grids.items():
            for run in self._runs_of(grid):
                if run in found:
                    raise LeagueError(
                        f"league: grids '{found[run]}' and '{name}' both hold {run.allocator} on {run.model} at "
                        f"{run.budget} bits, {run.evals} evaluations, seed {run.seed}: keep one"
                    )
                found[run] = name
        return found

    def able(self, names: Iterable[str]) -> list[str]:
        """The allocators among ``names`` that can run here."""
        return [name for name in names if base_of(self.study, name) not in self.unable]

    @property
    def runs(self) -> list[LeagueRun]:
        """Every run, in the order of the configuration."""
        return list(self.named)

    def _runs_of(self, grid: Grid) -> list[LeagueRun]:
        return [
            LeagueRun(model, name, f"{budget:g}", grid.checkpoints[-1], seed)
            for model in grid.models
            for name in self.able(grid.methods)
            for budget in grid.budgets
            for seed in (grid.seeds[:1] if base_of(self.study, name) in self.study.deterministic else grid.seeds)
        ]

    @property
    def models(self) -> list[str]:
        """Models of the league and of the optimum."""
        named = [model for grid in self.grids.values() for model in grid.models]
        return list(dict.fromkeys([*named, *(self.study.optimum.models if self.study.optimum else [])]))

    def is_trained(self, model: str) -> bool:
        """Whether the workflow trains a model itself, which then has to be worth quantizing."""
        return self.registry.get(model).kind == "trained"

    def grid_of(self, run: LeagueRun) -> Grid:
        """The block of a run."""
        return self.grids[self.named[run]]

    def heldout(self, run: LeagueRun) -> Places:
        """Held-out windows of a run."""
        assert self.study.league is not None  # a run has a league
        return self.grid_of(run).heldout or self.study.league.heldout

    def curve_points(self, run: LeagueRun) -> int:
        """Points of its anytime curve."""
        assert self.study.league is not None  # a run has a league
        return self.grid_of(run).curve_points or self.study.league.curve_points

    @property
    def search(self) -> Search:
        """Search and selection text of runs whose grid has none of its own."""
        return (self.study.league.search if self.study.league else None) or self.study.search

    def search_on(self, run: LeagueRun) -> Search:
        """Search and selection text of a run."""
        return self.grid_of(run).search or self.search

    @property
    def accept(self) -> Acceptance:
        """What a model trained here must lose to rounding."""
        return self.study.league.accept if self.study.league else Acceptance()

    @property
    def optimum(self) -> Optimum:
        """The exact optimum's section; ``LeagueError`` where the study has none."""
        if self.study.optimum is None:
            raise LeagueError("the configuration has no section 'optimum': add one (config/league.yaml has an example)")
        return self.study.optimum.model_copy(update={"methods": self.able(self.study.optimum.methods)})
