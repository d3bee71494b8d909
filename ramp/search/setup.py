"""From a command line to a search: its options, its method and parameters, its files, its problem and its state."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.bank.bank import INDEX
from ramp.core.atomic_files import require_file
from ramp.methods.kinds import Allocator, MethodError, SearchParams, reason_not_to_run
from ramp.methods.loader import find_method, load_method, parse_params, split_reference
from ramp.models.device import pick_device, pick_dtype
from ramp.problem.banked_model import BankedModel
from ramp.problem.problem import Problem
from ramp.problem.proxy import read_proxy, read_sensitivities
from ramp.scoring.score_type import Score
from ramp.search.journal import ROOT, SearchState, describe
from ramp.search.layout import find_paths
from ramp.search.run import SearchRun, run_search

if TYPE_CHECKING:
    from pydantic import BaseModel
    from transformers import PreTrainedModel

    from ramp.scoring.prefix_cache import PrefixScorer


@dataclass(frozen=True)
class SearchInputs:
    """The files that a search reads."""

    model_dir: Path  # checkpoint folder
    bank: Path  # folder of ramp.bank
    fold: Path | None  # the fold that the bank was made with
    calibration: Path  # activation statistics of ramp.calibration
    sensitivity: Path | None  # additive sensitivities
    search_text: Path
    selection_text: Path


@dataclass(frozen=True)
class SearchSettings:
    """The numbers of a search that are not its method's parameters."""

    search_windows: int  # windows of search text in one evaluation
    search_length: int  # tokens per window, of search and of selection text
    selection_windows: int  # windows of selection text; 0: as many as of search text
    budget: float  # bits per weight
    evals: int
    seed: int
    threads: int
    device: str
    dtype: str

    @property
    def final_windows(self) -> int:
        """Windows of selection text."""
        return self.selection_windows or self.search_windows


@dataclass(frozen=True)
class Search:
    """A search as its command line describes it, with everything checked before it starts."""

    source: Path  # the method: FILE, or FILE:NAME for a variant
    method: Allocator
    params: BaseModel
    inputs: SearchInputs
    settings: SearchSettings
    state_dir: Path

    def open_state(self, **more: Any) -> SearchState:
        """Return the search's checkpoints; ``more`` settings make it a search of its own."""
        read = vars(self.inputs) | {"bank": self.inputs.bank / INDEX}  # it names the sha256 of what the bank holds
        files = {name: require_file(path, name) for name, path in read.items() if path}
        own = {"params": self.params.model_dump(), "method": self.method.name}
        return SearchState.open(
            self.state_dir, describe(split_reference(self.source)[0], files, asdict(self.settings) | own | more)
        )

    def open_model(self) -> BankedModel:
        """Return the model with its bank and its fold."""
        return BankedModel(self.inputs.model_dir, self.inputs.bank, self.inputs.fold)

    def problem(self, banked: BankedModel, state: SearchState) -> Problem:
        """Return the problem on the real model, with evaluators that ``state`` counts and answers.

        Raises:
            AllocationError: the budget is below the cheapest allocation, or the sensitivities lack a linear or a width.
        """
        from ramp.scoring.prefix_cache import PrefixScorer, block_names
        from ramp.search.device_budget import share_device

        inputs, settings = self.inputs, self.settings
        # search text in equal parts, where the method's parameters ask for it (ramp.agent.params)
        params = self.params if isinstance(self.params, SearchParams) else None
        pooled, part = params.search_parts() if params else (0, 1)
        device, dtype = pick_device(settings.device), pick_dtype(settings.dtype, inputs.model_dir)
        model = banked.float_model(dtype, device)

        def scorers(model: PreTrainedModel, text: Path, count: int, size: int) -> list[PrefixScorer]:
            """Make scorers of ``count`` windows of a text, ``size`` each; the model must still be the float one."""
            if not count:
                return []
            windows = banked.windows(text, length=settings.search_length, count=count)
            # parts take turns and are not worth the memory; on a GPU it is shared out when all else is there
            limit = None if size == count and device.type == "cpu" else 0
            return [PrefixScorer(model, windows[first : first + size], limit) for first in range(0, count, size)]

        (whole,) = scorers(model, inputs.search_text, settings.search_windows, settings.search_windows)
        # a method that does not search compares no finalists, and their reference would take most of its time
        ends = (inputs.selection_text, settings.final_windows, settings.final_windows)
        final = scorers(model, *ends)[0] if params else None
        pool = scorers(model, inputs.search_text, pooled, part)
        share_device(model, banked.bank, whole, final)

        def scored(scorer: PrefixScorer) -> Callable[[np.ndarray], Score]:
            def score(choice: np.ndarray) -> Score:
                banked.bank.assemble(model, choice)  # in place; writes only what changed since the last one
                return scorer.score(model, block_names(banked.linears, choice))

            return score

        def select(choice: np.ndarray) -> Score:
            nonlocal final
            if final is None:  # it asked all the same; the model is not the float one any more
                final = scorers(banked.float_model(dtype, device), *ends)[0]
            return scored(final)(choice)

        proxy, proxy_tokens = None, 0
        if inputs.sensitivity:
            bank = banked.bank
            proxy, proxy_tokens = read_proxy(inputs.sensitivity, banked.linears, bank.widths, bank.sha256)
        problem = banked.problem(
            inputs.calibration,
            settings.budget,
            state.evaluator("search", scored(whole), limit=settings.evals),
            state.evaluator("selection", select),
            proxy=proxy,
            proxy_tokens=proxy_tokens,
            nll_float=whole.nll_float,
            search_parts=[state.evaluator(f"search part {k}", scored(each)) for k, each in enumerate(pool)],
            part_cost=part / settings.search_windows,
        )
        problem.check_budget()
        return problem

    def run(self, banked: BankedModel, state: SearchState, artifacts: Path | None = None) -> SearchRun:
        """Run the search (``ramp.search.run.run_search``)."""
        problem, seed, evals = self.problem(banked, state), self.settings.seed, self.settings.evals
        return run_search(self.method, self.params, problem, state, seed=seed, evals=evals, artifacts=artifacts)


def check_proxy(path: Path, method: Allocator) -> None:
    """Raise ``MethodError`` unless the sensitivities in ``path`` are of the kind that the method names."""
    kind = read_sensitivities(path).proxy
    if kind != method.proxy:
        raise MethodError(f"method '{method.name}' wants sensitivities of kind '{method.proxy}', {path} holds '{kind}'")


def load_allocator(method_file: Path, params: dict[str, Any]) -> tuple[Allocator, BaseModel]:
    """Return the allocator that a file registers, with its parameters; ``MethodError`` where it is none."""
    method = load_method(method_file)
    if not isinstance(method, Allocator):
        raise MethodError(f"{method_file} is a uniform method, which chooses no widths: name an allocator")
    if reason := reason_not_to_run(method):
        raise MethodError(f"method '{method.name}' does not run here: {reason}")
    return method, parse_params(method, params)


def find_allocator(name: str, params: Mapping[str, Any] | None = None) -> tuple[Path, Allocator, BaseModel]:
    """Return file, allocator and parameters of a method in ``baselines/``; raises ``MethodError``.

    ``params`` go over the defaults of its file.
    """
    source = find_method(ROOT / "baselines", name)
    return source, *load_allocator(source, dict(params or {}))


def prepare(args: argparse.Namespace, *outputs: str) -> tuple[Search, dict[str, Path]]:
    """Return the search that the options of ``ramp.search.options`` describe, and its paths to write, by option.

    ``outputs`` are the stage's own options that ``ramp.search.layout`` knows a place for, as it does for every path
    that was not given.
    """
    source = args.method_file or find_method(ROOT / "baselines", args.method)
    method, params = load_allocator(source, args.params)
    names = [each.name for each in fields(SearchInputs)]
    given = {name: getattr(args, name) for name in (*names, *outputs, "state_dir")}
    paths: dict[str, Any] = find_paths(given, args.results, args.model, method, args.budget, args.seed)
    inputs = SearchInputs(**{name: paths[name] for name in names})
    if inputs.sensitivity:
        check_proxy(require_file(inputs.sensitivity, "sensitivity"), method)
    settings = SearchSettings(**{each.name: getattr(args, each.name) for each in fields(SearchSettings)})
    return Search(source, method, params, inputs, settings, paths["state_dir"]), {name: paths[name] for name in outputs}
