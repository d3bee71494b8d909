"""The allocators against brute force and against each other."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.allocators import greedy, knapsack
from ramp.problem.problem import AllocationError
from tests.synthetic import synthetic_problem


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
    for solver in (knapsack.solve, knapsack.solve_dp, knapsack.solve_milp):
        choice = solver(costs, sizes, budget)
        assert total(sizes, choice) <= budget
        assert total(costs, choice) == pytest.approx(best, abs=1e-9 * np.abs(costs).max())


def test_dynamic_programming_and_integer_program_agree_on_a_model() -> None:
    problem = synthetic_problem(layers=6)
    by_dp = knapsack.solve_dp(problem.proxy, problem.bytes, problem.budget_bytes)
    by_milp = knapsack.solve_milp(problem.proxy, problem.bytes, problem.budget_bytes)
    assert total(problem.proxy, by_dp) == pytest.approx(total(problem.proxy, by_milp), rel=1e-9)


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


def test_budget_below_the_cheapest_allocation_is_one_sentence() -> None:
    problem = synthetic_problem(layers=1)
    problem.budget_bytes = problem.bytes.min(axis=1).sum() - 1
    with pytest.raises(AllocationError, match=r"cheapest \d+ \(3\.00 bits\); raise the budget"):
        problem.check_budget()
    with pytest.raises(AllocationError, match="budget below the cheapest allocation"):
        knapsack.solve(problem.proxy, problem.bytes, problem.budget_bytes)


def test_costs_that_are_not_finite_are_refused() -> None:
    costs = np.array([[0.0, np.nan]])
    with pytest.raises(AllocationError, match="linear 0 at width index 1"):
        knapsack.solve(costs, np.array([[1, 2]]), 2)


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
