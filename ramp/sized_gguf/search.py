"""Any allocator of the suite on a bank of ggml types, embedding and head inside the budget.

An allocator chooses among actions that are alike for all linears, but a unit's types depend on its rows. So an action
is a rate, the bits per weight of one type of the menu. For each unit it means its best type of at most that rate, or
its smallest one where none is. Bytes never fall and costs never rise from one action to the next. Actions that mean the
same type of a unit are one (``Problem.alike``): rows of 576 have four types, and twelve types have eight rates.

Candidates are scored by KL to the float model on search text, with the bank's own weights in the embedding and the head
too, so that the score of an allocation is that of the file that it becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ramp.core.cli import log
from ramp.core.source_closure import sources_digest
from ramp.evaluation.heldout import make_reference
from ramp.export.llamacpp_quantize import read_importance_file
from ramp.methods.loader import split_reference
from ramp.models.architecture import LinearSpec
from ramp.models.folder import ModelFolder
from ramp.problem.budget import check_budget
from ramp.problem.features import static_features
from ramp.problem.problem import Problem, encode
from ramp.quantizers.ggml import BLOCKS
from ramp.scoring.kl_divergence import head_weight
from ramp.scoring.score_type import Score
from ramp.search.journal import SearchState, describe
from ramp.search.run import run_search
from ramp.search.setup import find_allocator
from ramp.search.trained_policy import no_evaluation, read_policy, transfer
from ramp.sized_gguf.bank import GgmlBank
from ramp.sized_gguf.score import score
from ramp.sized_gguf.units import Unit


def rate(type_name: str) -> float:
    """Return the bits per weight of a type, scales included: Q4_K 4.5."""
    weights, size = BLOCKS[type_name]
    return 8 * size / weights


@dataclass
class GgmlProblem(Problem):
    """An allocation problem whose actions are rates; sizes are those of the tensors in the file."""

    def __post_init__(self) -> None:
        self.bytes = np.asarray(self.bytes, dtype=np.int64)

    @property
    def rates(self) -> np.ndarray:
        """Bits per weight of each action, ascending: float64 [w]."""
        return np.array([rate(str(width)) for width in self.widths])

    def check_budget(self) -> None:
        """Raise ``AllocationError`` where even the cheapest types do not fit."""
        check_budget(self.bytes, self.budget_bytes)


def action_names(menu: Sequence[str]) -> tuple[str, ...]:
    """Return one type for each rate of a menu, ascending: the widths of a policy."""
    return tuple({rate(name): name for name in reversed(menu)}[each] for each in sorted({rate(t) for t in menu}))


def actions(bank: GgmlBank, menu: Sequence[str]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return one type for each rate of a menu, ascending, and for each unit the type that every action means."""
    names, meant = action_names(menu), []
    for unit in bank.units:
        kept = bank.kept[unit.name]  # by bytes, each of less cost than the one before
        meant.append([next((t for t in reversed(kept) if rate(t) <= rate(action)), kept[0]) for action in names])
    return names, meant


def as_linear(unit: Unit, index: int, blocks: int) -> LinearSpec:
    """Return a unit as allocators see it; the embedding comes before the first block, the head behind the last."""
    if unit.tensor.linear:
        found = unit.tensor.linear
        return LinearSpec(
            found.name, found.layer, found.role, found.d_out, found.d_in, found.site, index, found.has_bias
        )
    rows, columns = unit.tensor.shape
    layer = 0 if unit.tensor.kind == "embedding" else blocks - 1
    return LinearSpec(unit.name, layer, unit.tensor.kind, rows, columns, unit.name, index, False)


class Candidates:
    """A model into which allocations are written, and their scores on the texts of a search."""

    def __init__(self, model: ModelFolder, bank: GgmlBank, meant: list[list[str]]) -> None:
        self._bank, self._meant = bank, meant
        self.model = model.load_float()
        self._places: list[Any] = [
            self.model.get_submodule(unit.tensor.source.removesuffix(".weight")).weight for unit in bank.units
        ]
        self._held: list[str | None] = [None] * len(bank.units)

    def scorer(self, windows: torch.Tensor) -> Callable[[np.ndarray], Score]:
        """Return a function that scores a choice [n]; the model must still be the float one."""
        if any(self._held):
            raise ValueError("the model holds an allocation already: make every scorer before the first score")
        reference = make_reference(self.model, windows, {})
        head = head_weight(self.model).detach().clone()

        def scored(choice: np.ndarray) -> Score:
            self._assemble(choice)
            found = score(self.model, reference, head)
            tokens, nll, kl = (sum(float(window[key]) for window in found) for key in ("tokens", "nll", "kl"))
            return Score(kl / tokens, float(np.exp(nll / tokens)), nll / tokens, windows.numel())

        return scored

    @torch.no_grad()
    def _assemble(self, choice: np.ndarray) -> None:
        for i, unit in enumerate(self._bank.units):
            kind = self._meant[i][choice[i]]
            if self._held[i] != kind:
                self._held[i] = None  # an interruption in the middle must not leave a wrong memory
                self._places[i].copy_(self._bank.weights(unit, kind))
                self._held[i] = kind


def unit_features(model: ModelFolder, bank: GgmlBank, imatrix: Path) -> np.ndarray:
    """Return the static features of every unit, float32 [n, 9].

    Absolute maximum and mean of an input are taken from its mean squares: the importance matrix has no others. An
    embedding that is looked up only reads one-hot vectors.
    """
    importance = read_importance_file(imatrix)
    linears = [as_linear(unit, i, model.config.num_hidden_layers) for i, unit in enumerate(bank.units)]
    stats, moments = {}, {}
    for unit, linear in zip(bank.units, linears, strict=True):
        root = np.sqrt(importance.get(unit.name, np.ones(1)))
        stats[linear.site] = (root, root)
        weight = model.reader.get(unit.tensor.source).double()
        moments[linear.name] = (float(weight.abs().mean()), float(weight.std(correction=0)))
    return static_features(linears, stats, moments)


@dataclass(frozen=True)
class SearchTexts:
    """Windows of search and of selection text, int64 [count, length] each."""

    search: torch.Tensor
    selection: torch.Tensor


@dataclass(frozen=True)
class TypeSearch:
    """Types to choose from, for a search or a trained policy."""

    model: ModelFolder
    bank: GgmlBank
    menu: Sequence[str]
    budget_bytes: int  # of all units together, alignment included
    imatrix: Path

    def problem(self, evaluate: Callable[[np.ndarray], Score], select: Callable[[np.ndarray], Score]) -> GgmlProblem:
        """Return the allocation problem; raises ``AllocationError`` where even the cheapest types do not fit."""
        units, (names, meant) = self.bank.units, actions(self.bank, self.menu)
        linears = [as_linear(unit, i, self.model.config.num_hidden_layers) for i, unit in enumerate(units)]
        weights = sum(linear.params for linear in linears)
        pairs = list(zip(units, meant, strict=True))
        problem = GgmlProblem(
            model=self.model.name,
            linears=linears,
            widths=names,
            bytes=np.array([[unit.room(t) for t in kinds] for unit, kinds in pairs]),
            budget_bytes=self.budget_bytes,
            budget_bits=8 * self.budget_bytes / weights,
            features=unit_features(self.model, self.bank, self.imatrix),
            evaluate=evaluate,
            select=select,
            bytes_at=lambda bits: int(bits * weights / 8),
            proxy=np.array([[self.bank.costs[unit.name][t] for t in kinds] for unit, kinds in pairs]),
            alike=np.array([[kinds.index(t) for t in kinds] for kinds in meant]),
        )
        problem.check_budget()
        return problem

    def types(self, choice: np.ndarray) -> dict[str, str]:
        """Return the types that a choice [n] means."""
        meant = actions(self.bank, self.menu)[1]
        return {unit.name: meant[i][int(choice[i])] for i, unit in enumerate(self.bank.units)}

    def by_method(
        self,
        name: str,
        texts: SearchTexts,
        state_dir: Path,
        policy_dir: Path,
        *,
        evals: int,
        seed: int,
        params: Mapping[str, Any] | None = None,
    ) -> dict[str, str]:
        """Return the types that a method of ``baselines/`` finds.

        A method that learns leaves its policy in ``policy_dir``. A killed search goes on from its journal in
        ``state_dir``. ``params`` go over the defaults of its file. Raises ``MethodError`` for a method that is no
        allocator.
        """
        source, method, chosen = find_allocator(name, params or {})
        candidates = Candidates(self.model, self.bank, actions(self.bank, self.menu)[1])
        about = {
            "method": method.name,
            "params": chosen.model_dump(),
            "menu": list(self.menu),
            "budget": self.budget_bytes,
            "evals": evals,
            "seed": seed,
            "texts": [each.tolist() for each in (texts.search, texts.selection)],
            "code": sources_digest("ramp/sized_gguf/search.py"),
        }
        state = SearchState.open(state_dir, describe(split_reference(source)[0], {"imatrix": self.imatrix}, about))
        on_search = state.evaluator("search", candidates.scorer(texts.search), limit=evals)
        on_selection = state.evaluator("selection", candidates.scorer(texts.selection))
        problem: GgmlProblem = self.problem(
            lambda choice: on_search(problem.distinct(choice)), lambda choice: on_selection(problem.distinct(choice))
        )
        found = run_search(method, chosen, problem, state, seed=seed, evals=evals, artifacts=policy_dir).found
        start, end = (
            None if choice is None else state.scores.get(("selection", encode(problem.distinct(choice))))
            for choice in (found.start_choice, found.choice)
        )
        if start and end:
            log.info("KL on selection text: %.4g at the start, %.4g at the end of the search", start.kl, end.kl)
        return self.types(found.choice)

    def by_policy(self, policy_dir: Path) -> dict[str, str]:
        """Return the types that a trained policy chooses; no candidate is scored.

        The bank's costs say which types an action means.

        Raises ``PolicyError`` for a policy of another menu.
        """
        return self.types(transfer(read_policy(policy_dir), self.problem(no_evaluation, no_evaluation)))
