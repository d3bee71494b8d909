"""Allocators on a bank of ggml types: no file is scored twice, and what an action means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ramp.allocators.scored_allocations import Archive
from ramp.problem.problem import Run
from ramp.rl.history import History
from ramp.rl.reward import RewardParams
from ramp.scoring.score_type import Score
from ramp.search.trained_policy import no_evaluation
from ramp.sized_gguf.search import Candidates, SearchTexts, TypeSearch, actions
from tests.ggml_models import TYPES, Made
from tests.tiny_models import windows_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Rows of 64 and 96: three types of six fit, and six types have five rates."""
    return Made(tmp_path_factory.mktemp("search"), "untied")


def search_of(made: Made, share: float = 0.6) -> TypeSearch:
    """A search whose budget is that ``share`` of the way from the smallest types to the largest."""
    sizes = np.array([[unit.room(kind) for kind in made.bank.kept[unit.name]][:: len(made.bank.kept[unit.name]) - 1]
                      for unit in made.units])  # fmt: skip
    low, high = sizes.sum(axis=0)
    return TypeSearch(made.model, made.bank, TYPES, int(low + share * (high - low)), made.imatrix)


@pytest.mark.parametrize("method", ["ramp", "evolution"])
def test_no_file_is_scored_twice(method: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many allocations are one file: actions of other rates that mean the same type of a unit.

    A stand-in for the model: an allocation's KL is the sum of the bank's costs.
    """
    search, scored = search_of(made), list[tuple[str, ...]]()
    texts = SearchTexts(*(windows_of(made.model.path, 2, 16, seed=seed) for seed in (1, 2)))

    def scorer(self: Candidates, windows: torch.Tensor) -> Callable[[np.ndarray], Score]:
        def score(choice: np.ndarray) -> Score:
            types = search.types(choice)
            if windows is texts.search:
                scored.append(tuple(types.values()))
            kl = sum(made.bank.costs[name][kind] for name, kind in types.items())
            return Score(kl, float(np.exp(kl)), kl, 1)

        return score

    monkeypatch.setattr(Candidates, "scorer", scorer)
    monkeypatch.setattr(Candidates, "__init__", lambda *given: None)
    types = search.by_method(method, texts, tmp_path / "state", tmp_path / "policy", evals=8, seed=0)
    assert len(set(scored)) == len(scored) >= 5
    assert sum(unit.room(types[unit.name]) for unit in made.units) <= search.budget_bytes


def test_actions_of_one_type_are_one_allocation(made: Made) -> None:
    search = search_of(made)
    problem = search.problem(no_evaluation, no_evaluation)
    names, meant = actions(made.bank, TYPES)
    assert len(names) == 5
    assert max(len(set(kinds)) for kinds in meant) < 5
    history = History(problem, Run(0, 3, Path(), lambda row: None), RewardParams())
    history.choices = problem.distinct(np.zeros(problem.n, dtype=np.int64))[None]
    archive = Archive(problem, history.run)
    archive._known["0" * problem.n] = 1.0
    copy = np.array([len(kinds) - 1 - kinds[::-1].index(kinds[0]) for kinds in meant])
    assert copy.any()
    assert search.types(copy) == search.types(history.choices[0])
    assert history.knows(copy)
    assert archive.knows(copy)
    last = np.array([len(names) - 1] * problem.n)
    assert not history.knows(last)
    costs = problem.shared(np.random.default_rng(0).standard_normal(problem.bytes.shape))
    for row, kinds in zip(costs, meant, strict=True):
        for kind in set(kinds):
            assert len({row[a] for a, other in enumerate(kinds) if other == kind}) == 1


def test_scores_are_those_of_the_file_and_a_policy_scores_nothing(made: Made, tmp_path: Path) -> None:
    search = search_of(made)
    texts = SearchTexts(*(windows_of(made.model.path, 2, 16, seed=seed) for seed in (1, 2)))
    found = search.by_method("ramp", texts, tmp_path / "state", tmp_path / "policy", evals=4, seed=0)
    again = search.by_method("ramp", texts, tmp_path / "state", tmp_path / "policy", evals=4, seed=0)
    assert found == again
    by_policy = search.by_policy(tmp_path / "policy")
    for types in (found, by_policy):
        assert sum(unit.room(types[unit.name]) for unit in made.units) <= search.budget_bytes
