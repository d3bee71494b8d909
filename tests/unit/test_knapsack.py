"""The allocators against brute force and against each other."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.allocators import greedy, knapsack
from ramp.problem.problem import AllocationError
from ramp.quantizers.sizes import linear_bytes
from tests.integer_program import solve_milp
from tests.refusals import refused
from tests.synthetic import synthetic_problem

SHAPES = ((48, 48), (16, 48), (128, 48), (48, 128))
"""[d_out, d_in] like a small transformer's."""


def total(values: np.ndarray, choice: np.ndarray) -> float:
    return values[np.arange(len(choice)), choice].sum()


def brute_force(costs: np.ndarray, sizes: np.ndarray, budget: int) -> float:
    choices = itertools.product(*[range(costs.shape[1])] * len(costs))
    return min(total(costs, np.array(c)) for c in choices if total(sizes, np.array(c)) <= budget)


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    n, w = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    unit = draw(st.sampled_from([1, 7, 4096]))
    sizes = unit * rng.integers(1, 30, (n, w))
    costs = rng.normal(size=(n, w)) * draw(st.sampled_from([1e-6, 1.0]))
    low, high = int(sizes.min(axis=1).sum()), int(sizes.max(axis=1).sum())
    return costs, sizes, draw(st.integers(low, high + unit))


@settings(max_examples=60)
@given(problems())
def test_both_exact_solvers_reach_the_brute_force_optimum(problem: tuple[np.ndarray, np.ndarray, int]) -> None:
    costs, sizes, budget = problem
    best = brute_force(costs, sizes, budget)
    for solver in (knapsack.solve, knapsack.solve_dp, solve_milp):
        choice = solver(costs, sizes, budget)
        assert total(sizes, choice) <= budget
        assert total(costs, choice) == pytest.approx(best, abs=1e-9 * np.abs(costs).max())


@settings(max_examples=60)
@given(problems(), st.integers(0, 2**32), st.booleans())
def test_repair_is_feasible_and_leaves_nothing_worth_buying(
    problem: tuple[np.ndarray, np.ndarray, int], seed: int, always: bool
) -> None:
    costs, sizes, budget = problem
    wild = np.random.default_rng(seed).integers(0, costs.shape[1], len(costs))
    fixed = greedy.repair(wild, costs, sizes, budget, always=always)
    assert total(sizes, fixed) <= budget
    left = budget - total(sizes, fixed)
    for i, a in itertools.product(range(len(costs)), range(costs.shape[1])):
        extra, gain = sizes[i, a] - sizes[i, fixed[i]], costs[i, fixed[i]] - costs[i, a]
        if 0 < extra <= left:
            assert not always
            assert gain <= 0


def test_greedy_is_feasible_and_close_to_the_optimum() -> None:
    problem = synthetic_problem(layers=6)
    rough = greedy.solve(problem.proxy, problem.bytes, problem.budget_bytes)
    best = total(problem.proxy, knapsack.solve(problem.proxy, problem.bytes, problem.budget_bytes))
    assert problem.is_feasible(rough)
    assert best <= total(problem.proxy, rough) <= 1.02 * best


def test_budgets_and_costs_that_do_not_do_are_refused() -> None:
    problem = synthetic_problem(layers=1)
    problem.budget_bytes = problem.bytes.min(axis=1).sum() - 1
    calls = {
        "3.00 bits": problem.check_budget,
        "budget below": lambda: knapsack.solve(problem.proxy, problem.bytes, problem.budget_bytes),
        "linear 0 at width index 1": lambda: knapsack.solve(np.array([[0.0, np.nan]]), np.array([[1, 2]]), 2),
    }
    refused(AllocationError, calls)


def test_multiplier_prices_the_budget() -> None:
    problem = synthetic_problem(layers=6)
    price = knapsack.multiplier(problem.proxy, problem.bytes, problem.budget_bytes)
    priced = problem.proxy + price * problem.bytes
    relaxed = priced.argmin(axis=1)
    assert problem.is_feasible(relaxed)
    assert problem.budget_bytes - problem.bytes_of(relaxed) < 2 * (problem.bytes[:, 3] - problem.bytes[:, 0]).max()
    bound = priced.min(axis=1).sum() - price * problem.budget_bytes  # Lagrange: below every feasible allocation
    best = total(problem.proxy, knapsack.solve(problem.proxy, problem.bytes, problem.budget_bytes))
    assert bound <= best + 1e-12
    assert knapsack.multiplier(problem.proxy, problem.bytes, int(problem.bytes.max(axis=1).sum())) == 0.0


@st.composite
def models(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    widths = draw(st.sampled_from([(3, 4), (3, 4, 6), (2, 3, 4, 5, 6)]))
    n = draw(st.integers(2, 30))
    shapes = [SHAPES[k] for k in rng.integers(0, len(SHAPES), n)]
    sizes = np.array([[linear_bytes(rows, columns, bits, 16) for bits in widths] for rows, columns in shapes])
    falling = np.exp(rng.normal(size=(n, 1))) * 4.0 ** -np.array(widths)
    costs = falling * np.exp(draw(st.sampled_from([0.0, 0.3, 2.0])) * rng.normal(size=sizes.shape))
    low, high = int(sizes[:, 0].sum()), int(sizes[:, -1].sum())
    return costs / costs.max(), sizes, draw(st.integers(low, high))


@settings(max_examples=40, deadline=None)
@given(models())
def test_both_exact_solvers_agree_on_larger_problems(
    model: tuple[np.ndarray, np.ndarray, int],
) -> None:
    costs, sizes, budget = model
    found = [solve(costs, sizes, budget) for solve in (knapsack.solve_dp, solve_milp)]
    assert all(total(sizes, choice) <= budget for choice in found)
    assert total(costs, found[0]) == pytest.approx(total(costs, found[1]), rel=1e-6, abs=1e-6)


def transformer(blocks: int, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Costs, sizes and a budget of a model with a vocabulary of so many rows, embedding and head inside the budget."""
    rng = np.random.default_rng(seed)
    rates = np.array([84, 98, 110, 144, 176, 210, 272])  # bytes per 256 weights, Q2_K to Q8_0
    shapes = [(rows, 4096)] + [(4096, 4096), (1024, 4096), (14336, 4096), (4096, 14336)] * blocks + [(rows, 4096)]
    sizes = np.array([[height * width // 256 * rate for rate in rates] for height, width in shapes])
    costs = np.exp(rng.normal(size=(len(sizes), 1))) * 4.0 ** (-8.0 * rates / 256)
    return costs, sizes, int(0.7 * sizes[:, 0].sum() + 0.3 * sizes[:, -1].sum())


def test_an_odd_vocabulary_is_solved_exactly_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One added token leaves sizes with a divisor of 32 bytes: a table of gigabytes, or a program without an end."""
    costs, sizes, budget = transformer(blocks=40, rows=32_001)
    started = time.process_time()
    choice = knapsack.solve(costs, sizes, budget)
    assert time.process_time() - started < 5
    assert total(sizes, choice) <= budget
    # another exact way: a large table that knows no common unit, on a model that is small enough for it
    costs, sizes, budget = transformer(blocks=1, rows=301)
    costs, sizes, budget = costs, sizes // 64, budget // 64
    wanted = solve_milp(costs, sizes, budget)
    monkeypatch.setattr(knapsack, "DP_CELLS", 20_000)
    excess, capacity = knapsack.in_units(sizes, budget)
    unit, odd = knapsack.common_unit(excess, capacity)  # type: ignore[misc]
    assert (list(np.flatnonzero(odd)), unit > 1) == ([0, 5], True)
    choice = knapsack.solve(costs, sizes, budget)
    assert total(sizes, choice) <= budget
    assert total(costs, choice) == pytest.approx(total(costs, wanted), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(models(), st.integers(1, 40))
def test_a_table_without_room_loses_no_more_than_sizes_that_are_rounded_up(
    model: tuple[np.ndarray, np.ndarray, int], odd: int
) -> None:
    costs, sizes, budget = model
    sizes = sizes + np.arange(sizes.shape[1]) * odd * np.arange(len(sizes))[:, None]
    budget = max(budget, int(sizes.min(axis=1).sum()))
    best = total(costs, knapsack.solve(costs, sizes, budget))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knapsack, "DP_CELLS", 4000)
        choice = knapsack.solve(costs, sizes, budget)
        _, capacity = knapsack.in_units(sizes, budget)
    unit = max(1, int(np.gcd.reduce(sizes - sizes.min(axis=1, keepdims=True), axis=None)))
    rounding = -(-(capacity + 1) * len(sizes) // 4000)
    lost = unit * ((len(sizes) + 1) * rounding + 1)  # of the budget at most, by sizes rounded up and the budget down
    assert total(sizes, choice) <= budget
    assert total(costs, choice) >= best - 1e-12
    if (tighter := budget - lost) >= sizes.min(axis=1).sum():
        assert total(costs, choice) <= total(costs, knapsack.solve(costs, sizes, tighter)) + 1e-12


def test_rounded_sizes_are_told_with_a_bound(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sizes = np.cumsum(rng.integers(1000, 5000, (20, 5)), axis=1)
    costs = np.sort(rng.random((20, 5)), axis=1)[:, ::-1]
    budget = int(sizes[:, 2].sum())
    exact = total(costs, knapsack.solve(costs, sizes, budget))
    monkeypatch.setattr(knapsack, "DP_CELLS", 40_000)
    with caplog.at_level("INFO"):
        choice = knapsack.solve(costs, sizes, budget)
    assert total(sizes, choice) <= budget
    assert exact <= total(costs, choice) <= 1.05 * exact
    assert "the optimum is at least" in caplog.text
