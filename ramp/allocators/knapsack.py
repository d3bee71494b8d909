"""The multiple-choice knapsack: one width per linear, least additive cost, bytes under a budget.

    minimise  sum_i costs[i, a_i]   subject to  sum_i sizes[i, a_i] <= budget_bytes

Two independent exact solvers: dynamic programming over bytes (Kellerer, Pferschy and Pisinger, Knapsack Problems,
section 11.5) and a mixed-integer program solved by HiGHS. The first is fast because the sizes of a transformer's
linears share a large divisor; the second is used where they do not.
"""

from __future__ import annotations

import numpy as np

from ramp.problem.problem import AllocationError, check_budget

DP_CELLS = 60_000_000
"""Largest dynamic-programming table (linears x byte units, one byte each) that ``solve`` will fill."""


def solve(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Return the feasible choice of least cost.

    Args:
        costs: float [n, w], additive cost of linear i at width a; any sign; finite.
        sizes: int [n, w], bytes.
        budget_bytes: upper bound of the summed sizes.

    Returns:
        int64 [n], index of the width of each linear.

    Raises:
        AllocationError: the budget is below the cheapest allocation, or a cost is not finite.
    """
    costs, sizes = check(costs, sizes, budget_bytes)
    excess, capacity = in_units(sizes, budget_bytes)
    if capacity >= int(excess.max(axis=1).sum()):
        return costs.argmin(axis=1)  # everything fits: nothing to trade
    if (capacity + 1) * len(costs) <= DP_CELLS:
        return solve_dp(costs, sizes, budget_bytes)
    return solve_milp(costs, sizes, budget_bytes)


def check(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return costs (float64) and sizes (int64) of matching shape; ``AllocationError`` where a cost is not finite."""
    costs, sizes = np.asarray(costs, dtype=np.float64), np.asarray(sizes, dtype=np.int64)
    if costs.shape != sizes.shape or costs.ndim != 2:
        raise AllocationError(f"costs are {costs.shape} and sizes {sizes.shape}: both must be [linears, widths]")
    if not np.isfinite(costs).all():
        linear, width = np.argwhere(~np.isfinite(costs))[0]
        raise AllocationError(
            f"the cost of linear {linear} at width index {width} is {costs[linear, width]}: measure it again"
        )
    check_budget(sizes, budget_bytes)
    return costs, sizes


def in_units(sizes: np.ndarray, budget_bytes: int) -> tuple[np.ndarray, int]:
    """Return (excess [n, w], capacity): sizes above each linear's cheapest, in their greatest common divisor."""
    excess = sizes - sizes.min(axis=1, keepdims=True)
    unit = max(1, int(np.gcd.reduce(excess, axis=None)))
    return excess // unit, int(budget_bytes - sizes.min(axis=1).sum()) // unit


def solve_dp(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Solve by dynamic programming in O(n * w * capacity) time and n * capacity bytes of memory."""
    costs, sizes = check(costs, sizes, budget_bytes)
    excess, capacity = in_units(sizes, budget_bytes)
    capacity = min(capacity, int(excess.max(axis=1).sum()))
    n, width_count = costs.shape
    best = np.zeros(capacity + 1)  # best[u]: least cost of the linears so far within u units
    taken = np.zeros((n, capacity + 1), dtype=np.uint8)
    for i in range(n):
        fresh = np.full(capacity + 1, np.inf)
        for a in range(width_count):
            need = int(excess[i, a])
            if need > capacity:
                continue
            candidate = best[: capacity + 1 - need] + costs[i, a]
            better = candidate < fresh[need:]
            fresh[need:][better] = candidate[better]
            taken[i, need:][better] = a
        best = fresh
    choice = np.empty(n, dtype=np.int64)
    left = capacity
    for i in range(n - 1, -1, -1):
        choice[i] = taken[i, left]
        left -= int(excess[i, choice[i]])
    return choice


def solve_milp(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Solve as a 0-1 program by scipy's HiGHS, to a relative gap of zero."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

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
    if result.x is None:
        raise AllocationError(
            f"the integer program found no allocation ({result.message}): report the sizes and the budget"
        )
    choice = result.x.reshape(n, width_count).argmax(axis=1)
    if int(sizes[np.arange(n), choice].sum()) > budget_bytes:
        raise AllocationError(
            "the integer program's solution exceeds the budget by rounding: lower the budget by one byte"
        )
    return choice


def multiplier(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> float:
    """Return the Lagrange multiplier of the budget: the least price per byte at which all linears' own best fit.

    Returns:
        Cost units per byte; 0 where the budget does not bind. Found by bisection to 1e-9 of its size.
    """
    costs, sizes = check(costs, sizes, budget_bytes)
    rows = np.arange(len(costs))

    def spent(price: float) -> int:
        return int(sizes[rows, (costs + price * sizes).argmin(axis=1)].sum())

    if spent(0.0) <= budget_bytes:
        return 0.0
    high = max(float(np.ptp(costs)), 1e-300) / max(1, int(sizes.max()))
    while spent(high) > budget_bytes:
        high *= 2
        if high > 1e300:
            return high
    low = 0.0
    while high - low > 1e-9 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if spent(middle) > budget_bytes else (low, middle)
    return high
