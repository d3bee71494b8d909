"""The allocators against brute force, against each other, and against an integer program in another formulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from ramp.allocators import greedy, knapsack
from ramp.problem.problem import AllocationError
from ramp.quantizers.sizes import linear_bytes
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
    for solver in (knapsack.solve, knapsack.solve_dp, knapsack.solve_milp):
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


def test_budget_below_the_cheapest_allocation_is_one_sentence() -> None:
    problem = synthetic_problem(layers=1)
    problem.budget_bytes = problem.bytes.min(axis=1).sum() - 1
    with pytest.raises(AllocationError, match=r"3\.00 bits"):
        problem.check_budget()
    with pytest.raises(AllocationError, match="budget below"):
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


def optimum(costs: np.ndarray, sizes: np.ndarray, budget: int) -> float:
    """Return the least cost by HiGHS, with w - 1 increments per linear instead of one choice among w."""
    n, w = costs.shape
    extra_cost, extra_size = np.diff(costs, axis=1), np.diff(sizes, axis=1)
    rows = []
    for i in range(n):  # increment a needs increment a - 1
        for a in range(1, w - 1):
            row = np.zeros((n, w - 1))
            row[i, a - 1], row[i, a] = 1, -1
            rows.append(row.ravel())
    constraints = [LinearConstraint(extra_size.reshape(1, -1), -np.inf, budget - sizes[:, 0].sum())]
    if rows:
        constraints.append(LinearConstraint(np.array(rows), 0, np.inf))
    found = milp(
        extra_cost.ravel(),
        integrality=np.ones(n * (w - 1)),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    assert found.x is not None
    return float(costs[:, 0].sum() + extra_cost.ravel() @ np.round(found.x))


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
def test_dynamic_program_reaches_the_integer_optimum(model: tuple[np.ndarray, np.ndarray, int]) -> None:
    costs, sizes, budget = model
    choice = knapsack.solve_dp(costs, sizes, budget)
    rows = np.arange(len(costs))
    assert sizes[rows, choice].sum() <= budget
    reached = costs[rows, choice].sum()
    assert reached == pytest.approx(optimum(costs, sizes, budget), rel=1e-6, abs=1e-6)
    by_milp = knapsack.solve_milp(costs, sizes, budget)
    assert costs[rows, by_milp].sum() == pytest.approx(reached, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("budget", [3.25, 3.5, 3.65, 3.75, 4.0])
def test_at_every_budget_of_the_league(budget: float) -> None:
    problem = synthetic_problem(layers=8, budget=budget)
    assert problem.proxy is not None
    costs = problem.proxy / problem.proxy.max()
    choice = knapsack.solve(costs, problem.bytes, problem.budget_bytes)
    assert problem.is_feasible(choice)
    best = optimum(costs, problem.bytes, problem.budget_bytes)
    assert costs[np.arange(problem.n), choice].sum() == pytest.approx(best, rel=1e-6)
