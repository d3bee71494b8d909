"""Evolution, annealing, the table of role and depth, and what they share: budget, count, seed, progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.annealing import AnnealingParams, Schedule
from ramp.allocators import knapsack
from ramp.allocators.moves import Ladder, mutate, random_start
from ramp.allocators.scored_allocations import Archive
from ramp.problem.problem import AllocationError, Evaluator, Problem, Run
from ramp.rl.role_depth import NAMES, design, load_table
from ramp.search.trained_policy import transfer
from tests.searchable import allocate
from tests.synthetic import evaluator, linears, losses, synthetic_problem

SEARCHES = ("evolution", "annealing", "role_depth")


def additive(layers: int = 2, budget: float = 3.65) -> tuple[Problem, float]:
    """A problem whose loss is the additive part alone, and the least loss that there is."""
    _, truth, pairs = losses(linears(layers), (3, 4, 5, 6), 0)
    problem = synthetic_problem(layers, budget, evaluate=Evaluator(evaluator(truth, 0 * pairs)))
    best = knapsack.solve(truth, problem.bytes, problem.budget_bytes)
    return problem, float(truth[np.arange(problem.n), best].sum())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(3.0, 6.0), st.integers(1, 3))
def test_moves_stay_at_the_budget(seed: int, budget: float, layers: int) -> None:
    problem, rng = synthetic_problem(layers, budget), np.random.default_rng(seed)
    choice = random_start(problem, rng)
    for _ in range(5):
        assert choice.dtype == np.int64
        assert problem.is_feasible(choice)
        ladder = Ladder(problem)
        levels = ladder.levels(choice)
        assert np.array_equal(ladder.choice(levels), choice)
        left = problem.budget_bytes - problem.bytes_of(choice)
        assert ladder.steps_up(levels).min() > left  # nothing more fits: equal bytes up to less than one level
        choice = mutate(problem, choice, rng)


def test_a_mutation_changes_few_linears_and_reaches_all_of_them() -> None:
    problem, rng = synthetic_problem(4), np.random.default_rng(0)
    parent = random_start(problem, rng)
    changed = np.array([mutate(problem, parent, rng) != parent for _ in range(300)])
    assert changed.any(axis=0).all()
    assert (changed.sum(axis=1) >= 2).mean() > 0.9  # one up, one down
    assert changed.sum(axis=1).mean() < 8


def test_ladders_follow_bytes_and_not_the_order_of_widths() -> None:
    """On other grids a wider type may take fewer bytes (llama.cpp's fallbacks)."""
    problem = synthetic_problem(1)
    problem.bytes[2, 1], problem.bytes[2, 2] = problem.bytes[2, 2], problem.bytes[2, 1]
    ladder = Ladder(problem)
    assert list(ladder.order[2]) == [0, 2, 1, 3]
    choice = np.array([3, 0, 2, 1, 0, 1, 2])
    assert ladder.bytes_of(ladder.levels(choice)) == problem.bytes_of(choice)


def test_the_archive_asks_for_nothing_twice_and_for_no_more_than_it_may(tmp_path: Path) -> None:
    problem = synthetic_problem(1)
    rows: list[dict[str, Any]] = []
    problem.evaluate.limit = 2
    archive = Archive(problem, Run(0, 2, tmp_path, rows.append))
    cheap, rng = np.zeros(problem.n, dtype=int), np.random.default_rng(0)
    first = archive.score(cheap, "a")
    assert archive.score(cheap.astype(np.int32), "b") == first
    assert (archive.left, len(rows), problem.evaluate.evals) == (1, 1, 1)
    archive.score(random_start(problem, rng), "c")
    assert [row["proposer"] for row in rows] == ["a", "c"]
    assert rows[1]["best"] == min(row["kl"] for row in rows)
    assert archive.fresh(lambda: cheap, tries=3) is None
    with pytest.raises(AllocationError, match="2 evaluations"):
        archive.score(cheap + 1, "d")


@pytest.mark.parametrize("evals", [1, 12, 100])
@pytest.mark.parametrize("name", SEARCHES)
def test_exactly_the_allowed_evaluations_are_spent(name: str, evals: int, tmp_path: Path) -> None:
    problem = synthetic_problem(3)
    found, rows = allocate(name, problem, tmp_path, evals)
    assert problem.evaluate.evals == len(rows) == evals
    assert problem.is_feasible(found.choice)
    assert len({row["bytes"] for row in rows}) >= 1
    assert all(row.keys() >= {"proposer", "kl", "ppl", "bytes", "best"} for row in rows)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_space_that_is_used_up_ends_the_search(name: str, tmp_path: Path) -> None:
    """One block at a budget of its cheapest width and one level more: a handful of allocations."""
    problem = synthetic_problem(1, budget=3.0)
    problem.budget_bytes += int((problem.bytes[:, 1] - problem.bytes[:, 0]).min())
    found, rows = allocate(name, problem, tmp_path, 500)
    assert problem.is_feasible(found.choice)
    assert 1 <= len(rows) < 30


@pytest.mark.parametrize("name", ["evolution", "annealing"])
def test_from_the_knapsack_it_starts_there_and_keeps_it_in_the_running(name: str, tmp_path: Path) -> None:
    problem = synthetic_problem(3)
    found, rows = allocate(name, problem, tmp_path, 60, start="knapsack")
    start = knapsack.solve(problem.proxy, problem.bytes, problem.budget_bytes)
    assert np.array_equal(found.start_choice, start)
    assert problem.proxy_used
    assert rows[0]["kl"] == problem.evaluate.raw(start).kl
    assert problem.select.raw(found.choice).kl <= problem.select.raw(start).kl
    cold = synthetic_problem(3)
    assert allocate(name, cold, tmp_path, 10)[0].start_choice is None
    assert not cold.proxy_used  # from scratch nothing is charged for sensitivities


@pytest.mark.parametrize("name", ["evolution", "annealing"])
def test_with_many_evaluations_it_comes_near_the_optimum(name: str, tmp_path: Path) -> None:
    problem, best = additive()
    _, rows = allocate(name, problem, tmp_path, 600)
    assert best <= rows[-1]["best"] <= 1.03 * best
    assert rows[-1]["best"] < 0.9 * rows[0]["kl"]


def test_a_table_finds_what_a_table_explains(tmp_path: Path) -> None:
    """A loss that is one of role and depth: the fitted table comes within 1 % of the exact optimum."""
    problem = synthetic_problem(4)
    numbers = np.random.default_rng(1).normal(size=len(NAMES))
    params = np.array([x.params for x in problem.linears], dtype=float)
    truth = params[:, None] * 4.0 ** (design(problem.linears) @ numbers)[:, None] * 4.0 ** -np.array(problem.widths)
    truth *= 0.2 / truth[:, 0].sum()
    problem.evaluate = Evaluator(evaluator(truth, np.zeros((problem.n, problem.n))))
    choice = knapsack.solve(truth, problem.bytes, problem.budget_bytes)
    best = float(truth[np.arange(problem.n), choice].sum())
    found, rows = allocate("role_depth", problem, tmp_path, 200)
    assert rows[0]["kl"] > 1.1 * best
    assert rows[-1]["best"] <= 1.01 * best
    assert found.start_choice is not None
    # its table is a policy: it gives the same allocation here, and one within the budget on a deeper model
    table = load_table(tmp_path)
    assert np.array_equal(transfer(table, problem), found.choice)
    assert table.about["model"] == problem.model
    assert 0 < table.about["episodes"] <= 200
    deeper = synthetic_problem(7, budget=3.5)
    deeper.features[:] = np.nan
    assert deeper.is_feasible(transfer(table, deeper))
    assert deeper.evaluate.evals == 0


def test_a_table_knows_nothing_but_role_and_depth(tmp_path: Path) -> None:
    problem = synthetic_problem(3)
    problem.proxy = None
    problem.features[:] = np.nan
    assert problem.is_feasible(allocate("role_depth", problem, tmp_path, 20)[0].choice)
    table = design(problem.linears)
    assert table.shape == (problem.n, len(NAMES))
    assert (table[:, :7].sum(axis=1) == 1).all()
    assert (table[0, 7:] == [-1, 1, 0]).all()
    assert (table[-1, 7:] == [1, 0, 1]).all()


def test_temperatures_have_the_scale_of_the_first_worsenings() -> None:
    schedule = Schedule(AnnealingParams(warmup=4, accept=0.5, end=0.1), 100)
    for move, difference in enumerate([0.2, -1.0, 0.4, float("inf"), 9.0]):
        schedule.observe(move, difference)
    assert schedule.temperature(3) == 0
    first = schedule.temperature(4)
    assert np.exp(-0.3 / first) == pytest.approx(0.5)  # the mean of 0.2 and 0.4
    assert schedule.temperature(99) == pytest.approx(0.1 * first)


def test_uniform_is_the_widest_that_fits(tmp_path: Path) -> None:
    for budget, width in ((3.0, 3), (3.65, 3), (4.0, 4), (5.99, 5)):
        problem = synthetic_problem(2, budget)
        found = allocate("uniform", problem, tmp_path, 5)[0]
        assert {problem.widths[a] for a in found.choice} == {width}
        assert problem.evaluate.evals == 1
        assert found.kind == "proxy"
