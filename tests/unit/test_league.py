"""The league's rule: incumbents by brute force, checkpoints, costs, curves; a killed run ends as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ramp.league.checkpoints import (
    FINALISTS,
    changes,
    finalists,
    incumbent,
    moments,
    read_curve,
    read_rows,
    seconds,
    thinned,
)
from ramp.methods.kinds import Allocator, Params
from ramp.problem.problem import Allocation, Run, decode, encode
from ramp.search.journal import SearchState
from ramp.search.run import Evaluation, SearchRun, run_search
from tests.searchable import FAST, KilledError, allocator, journalled, true_loss
from tests.synthetic import synthetic_problem

EVALS = 14
PARAMS: dict[str, dict[str, Any]] = {"ramp": FAST, "ramp_paper": {**FAST, "clone_steps": 0}}
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
TOKENS = 2048  # of one evaluation, and of one score on selection text


def searched(folder: Path, name: str, *, budget: float = 3.65, die_at: int | None = None) -> SearchRun:
    """One run in ``folder``; ``die_at`` raises in that many-th true evaluation."""
    method, state = allocator(name), SearchState.open(folder, {"test": name})
    problem = journalled(state, EVALS, budget, die_at)
    return run_search(method, method.params(**PARAMS.get(name, {})), problem, state, seed=3, evals=EVALS)


@pytest.mark.parametrize("name", ["random_search", "ramp"])
@pytest.mark.parametrize("upto", [1, 4, 9, EVALS])
def test_the_incumbent_is_what_the_rule_says(name: str, upto: int, tmp_path: Path) -> None:
    """Recomputed from the loss itself, without trace or journal."""
    run = searched(tmp_path, name)
    kl, selection = true_loss(0.0), true_loss(0.05)
    seen = [decode(choice) for choice in (each.choice for each in run.evaluations[:upto])]
    feasible = {encode(c): kl(c).kl for c in seen if run.problem.bytes_of(c) <= run.problem.budget_bytes}
    candidates = set(sorted(feasible, key=lambda choice: feasible[choice])[:FINALISTS])
    if run.found.start_choice is not None:
        candidates.add(encode(run.found.start_choice))
    best = min(candidates, key=lambda choice: selection(decode(choice)).kl)
    choice, scored, note = incumbent(run, upto)
    assert (choice, scored, note) == (best, len(candidates), "")


def test_costs_count_sensitivities_evaluations_and_the_selection_of_the_incumbent(tmp_path: Path) -> None:
    run = searched(tmp_path / "ramp", "ramp")
    rows = read_rows(run, [5, EVALS], seconds(run))
    assert [row["evals"] for row in rows] == [row["spent"] for row in rows] == [5, EVALS]
    proxy = 3 * 2048
    scored = [len(finalists(run.evaluations, upto, run.problem.budget_bytes, run.start)) for upto in (5, EVALS)]
    assert [row["tokens"] for row in rows] == [proxy + (5 + scored[0]) * TOKENS, proxy + (EVALS + scored[1]) * TOKENS]
    other = searched(tmp_path / "random", "random_search")
    row = read_rows(other, [EVALS], seconds(other))[0]
    assert (
        row["tokens"] == (EVALS + FINALISTS) * TOKENS
    )  # reads no sensitivities; its own selection is not the league's
    assert 0 < rows[0]["wall_s"] <= rows[1]["wall_s"]


def test_a_method_that_searches_nothing_has_one_row(tmp_path: Path) -> None:
    run = searched(tmp_path, "knapsack")
    (row,) = read_rows(run, [5, EVALS], seconds(run))
    assert (row["evals"], row["spent"]) == (1, 1)
    assert row["choice"] == encode(run.found.choice) == run.start
    assert row["tokens"] == 3 * 2048 + 2 * TOKENS
    assert row["bytes_linear"] == run.problem.bytes_of(run.found.choice)


def test_without_a_feasible_evaluation_only_the_end_has_an_incumbent(tmp_path: Path) -> None:
    run = searched(tmp_path, "ramp_paper", budget=3.05)
    first, last = read_rows(run, [5, EVALS], seconds(run))
    assert first["choice"] is first["kl_selection"] is first["bytes_linear"] is None
    assert "no allocation within the budget" in first["note"]
    assert last["choice"] is not None
    assert last["bytes_linear"] <= run.problem.budget_bytes


@pytest.mark.parametrize("name", ["ramp", "random_search"])
def test_a_killed_run_has_the_evaluations_of_one_that_was_not(name: str, tmp_path: Path) -> None:
    straight = searched(tmp_path / "straight", name)
    for die_at in (6, 4):
        with pytest.raises(KilledError):
            searched(tmp_path / "broken", name, die_at=die_at)
    broken = searched(tmp_path / "broken", name)
    assert broken.evaluations == straight.evaluations
    assert broken.rows == straight.rows
    assert len(broken.evaluations) == EVALS
    rows = [read_rows(run, [7, EVALS], [0.0] * EVALS) for run in (straight, broken)]
    assert rows[0] == rows[1]
    assert len(seconds(broken)) == EVALS


def test_the_curve_falls_begins_at_the_start_and_holds_feasible_allocations(tmp_path: Path) -> None:
    run = searched(tmp_path, "ramp")
    curve = read_curve(run, 20)
    assert curve[0]["is_start"]
    assert curve[0]["evals"] == 1
    assert not any(point["is_start"] for point in curve[1:])
    falling = [point["kl_search"] for point in curve]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == min(each.kl for each in run.evaluations if each.bytes <= run.problem.budget_bytes)


def test_a_checkpoint_before_the_end_of_a_short_run_keeps_its_row() -> None:
    assert moments([100, 300, 1000], 1000) == [100, 300, 1000]
    assert moments([100, 300, 1000], 250) == [100, 300, 1000]
    assert moments([100, 300, 1000], 99) == [99]
    assert moments([100], 0) == [0]


@UNHURRIED
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_choices_survive_their_code(choice: list[int]) -> None:
    assert decode(encode(choice)).tolist() == choice


@UNHURRIED
@given(st.sets(st.integers(0, 999), min_size=1), st.integers(1, 30))
def test_thinning_keeps_both_ends_and_what_holds_at_its_points(found: set[int], points: int) -> None:
    changes = sorted(found)
    kept = thinned(changes, 1000, points)
    assert kept == sorted(set(kept))
    assert set(kept) <= found
    assert {changes[0], changes[-1]} <= set(kept)
    assert len(kept) <= points + 2
    if points == 30 and len(changes) == 1:
        assert kept == changes
    assert thinned([], 10, 5) == []


def test_infeasible_and_infinite_evaluations_are_never_finalists() -> None:
    scores = [("00", 3.0, 5), ("11", float("inf"), 1), ("01", 1.0, 9), ("01", 1.0, 9), ("10", 2.0, 5)]
    found = [Evaluation(*score, count, count, True) for count, score in enumerate(scores, start=1)]
    assert finalists(found, 5, 6, None) == ["10", "00"]
    assert finalists(found, 5, 9, "11") == ["11", "01", "10", "00"]
    assert finalists(found, 1, 4, None) == []
    assert changes(found, 9) == [0, 2]
    assert changes(found, 6) == [0, 4]
    parts = [
        Evaluation(*score, count, count, False)
        for count, score in enumerate([("00", 1.0, 5), ("00", 1.5, 5), ("11", 1.2, 5)], start=1)
    ]
    assert changes(parts, 9) == [1, 2]  # the start's last score is over all parts, its first over one


def test_parts_of_text_count_by_their_tokens_and_rank_by_the_method_s_own_estimates(tmp_path: Path) -> None:
    """Two parts of half an evaluation: a first estimate is overruled by the next, a whole score ranks nothing."""
    state = SearchState.open(tmp_path, {})
    evaluate = state.evaluator("search", true_loss(0.0), limit=EVALS)
    problem: Any = synthetic_problem(evaluate=evaluate, select=state.evaluator("selection", true_loss(0.05)))
    problem.search_parts = [state.evaluator(f"search part {k}", true_loss(0.1 * k)) for k in range(2)]
    problem.part_cost = 0.5
    low, high = (np.full(problem.n, index) for index in (0, 1))
    estimates = [(low, 0.5), (high, 0.4), (low, 0.3), (high, None)]

    def allocate(problem: Any, params: Any, run: Run) -> Allocation:
        for number, (choice, kl) in enumerate(estimates):
            problem.search_parts[number % 2](choice)
            run.log({"kl": kl, "best": 0.3})
        problem.evaluate(high)
        return Allocation(low, "best", start_choice=None)

    method = Allocator(title="t", source="s", allocate=allocate, params=Params, name="parts")
    run = run_search(method, Params(), problem, state, seed=0, evals=EVALS)
    assert [each.evals for each in run.evaluations] == [1, 1, 2, 2, 3]
    assert run.upto(1) == 2
    budget = problem.bytes_of(high)
    assert finalists(run.evaluations, 2, budget, None) == [encode(high), encode(low)]
    assert finalists(run.evaluations, 5, budget, None) == [encode(low)]  # the other's latest estimate is no number
    assert [each.tokens for each in run.evaluations] == [TOKENS * count for count in (1, 2, 3, 4, 5)]
    assert [row["choice"] for row in run.rows] == [encode(choice) for choice, _ in estimates]
    assert len(seconds(run)) == 5
