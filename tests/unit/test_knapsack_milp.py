"""The dynamic program against scipy's integer programs in a formulation of their own, on sizes like a transformer's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from ramp.allocators import knapsack
from ramp.quantizers.sizes import linear_bytes
from tests.synthetic import synthetic_problem

SHAPES = ((48, 48), (16, 48), (128, 48), (48, 128))


def optimum(costs: np.ndarray, sizes: np.ndarray, budget: int) -> float:
    """Least cost by HiGHS: w - 1 increments per linear instead of one choice among w, on sizes as they are."""
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
