"""The multiple-choice knapsack as a 0-1 program: another solver than ``ramp.allocators.knapsack``, to compare with."""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from ramp.allocators.knapsack import check, in_units


def solve_milp(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Solve as a 0-1 program by scipy's HiGHS, to a relative gap of zero."""
    costs, sizes = check(costs, sizes, budget_bytes)
    excess, capacity = in_units(sizes, budget_bytes)
    n, width_count = costs.shape
    spread = float(np.ptp(costs)) or 1.0  # costs of 1e-6 nats are below the solver's tolerances
    cells = n * width_count
    one_each = coo_array((np.ones(cells), (np.repeat(np.arange(n), width_count), np.arange(cells))), shape=(n, cells))
    largest = max(1, int(excess.max()))
    room = excess.reshape(1, -1) / largest
    result = milp(
        ((costs - costs.min(axis=1, keepdims=True)) / spread).ravel(),
        integrality=np.ones(cells),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(room, -np.inf, capacity / largest)],
        options={"mip_rel_gap": 0.0},
    )
    assert result.x is not None, result.message
    return result.x.reshape(n, width_count).argmax(axis=1)
