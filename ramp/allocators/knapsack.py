"""The multiple-choice knapsack: one width per linear, least additive cost, bytes under a budget.

    minimise  sum_i costs[i, a_i]   subject to  sum_i sizes[i, a_i] <= budget_bytes

Dynamic programming over bytes (Kellerer, Pferschy and Pisinger, Knapsack Problems, section 11.5), exact, and fast
because the sizes of a transformer's linears share a large divisor. An embedding with an odd number of rows does not:
all widths of the few tensors without that divisor are tried, each on one table of the others, which is exact too. Where
many tensors have no common divisor, sizes are rounded up, and the log says how far from the optimum that can be.
Nothing depends on the speed of the machine. tests/integer_program.py has an independent solver.
"""

from __future__ import annotations

import itertools
import logging
import math

import numpy as np

from ramp.problem.problem import AllocationError, check_budget

log = logging.getLogger("ramp.allocators.knapsack")

DP_CELLS = 60_000_000
"""Largest dynamic-programming table (linears x byte units, one byte each) that ``solve`` will fill."""

MOST_CHOICES = 4096
"""Choices of the tensors without the common divisor that ``solve`` will try: two tensors at eight widths have 64."""


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
    if found := common_unit(excess, capacity):
        return _solve_apart(costs, excess, capacity, *found)
    return _solve_rounded(costs, sizes, budget_bytes)


def check(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return costs as float64 [n, w] and sizes, bytes, as int64 [n, w].

    Raises:
        AllocationError: their shapes differ, a cost is not finite, or the budget is below the cheapest allocation.
    """
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


def common_unit(excess: np.ndarray, capacity: int) -> tuple[int, np.ndarray] | None:
    """Return a unit and which linears [n] are no multiples of it; None where those would have too many choices.

    The linears' own divisors, and the common ones of some of them, are what a unit can be; the best leaves the fewest
    choices, and then the smallest table.
    """
    own = np.gcd.reduce(excess, axis=1)  # 0: a linear without a choice, a multiple of everything
    units: set[int] = set()
    for each in {int(value) for value in own if value}:
        units |= {each, *(math.gcd(each, unit) for unit in units)}
    found = []
    for unit in sorted(units):
        odd = own % unit != 0
        choices, cells = excess.shape[1] ** int(odd.sum()), (capacity // unit + 1) * int((~odd).sum())
        if choices <= MOST_CHOICES and cells <= DP_CELLS:
            found.append((choices, cells, unit, odd))
    return min(found, key=lambda each: each[:3])[2:] if found else None


def _solve_apart(costs: np.ndarray, excess: np.ndarray, capacity: int, unit: int, odd: np.ndarray) -> np.ndarray:
    """Try every choice of the ``odd`` linears [n] on one table of the others, whose sizes are multiples of ``unit``."""
    few, shared = np.flatnonzero(odd), excess[~odd] // unit
    best, taken = _table(costs[~odd], shared, capacity // unit)
    found, least, left = tuple[int, ...](), math.inf, 0
    for chosen in itertools.product(range(costs.shape[1]), repeat=len(few)):
        room = capacity - int(excess[few, chosen].sum())
        if room >= 0 and (cost := float(costs[few, chosen].sum() + best[room // unit])) < least:
            found, least, left = chosen, cost, room // unit
    choice = np.empty(len(costs), dtype=np.int64)
    choice[~odd], choice[odd] = _traced(taken, shared, left), found
    return choice


def _solve_rounded(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Solve with sizes rounded up to a unit that the table has room for: feasible, and near the optimum."""
    excess, capacity = in_units(sizes, budget_bytes)
    unit = -(-(capacity + 1) * len(costs) // DP_CELLS)
    rounded = -(-excess // unit)
    choice = _traced(_table(costs, rounded, capacity // unit)[1], rounded, capacity // unit)
    price = multiplier(costs, sizes, budget_bytes)
    bound = float((costs + price * sizes).min(axis=1).sum() - price * budget_bytes)  # Lagrange: of every allocation
    cost = float(costs[np.arange(len(costs)), choice].sum())
    log.info("sizes without a common divisor are rounded up: cost %.6g, the optimum is at least %.6g", cost, bound)
    return choice


def solve_dp(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Solve by dynamic programming in O(n * w * capacity) time and n * capacity bytes of memory."""
    costs, sizes = check(costs, sizes, budget_bytes)
    excess, capacity = in_units(sizes, budget_bytes)
    capacity = min(capacity, int(excess.max(axis=1).sum()))
    return _traced(_table(costs, excess, capacity)[1], excess, capacity)


def _table(costs: np.ndarray, excess: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least cost [capacity + 1] within so many units, and each linear's width there [n, capacity + 1]."""
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
    return best, taken


def _traced(taken: np.ndarray, excess: np.ndarray, left: int) -> np.ndarray:
    """Return the choice [n] that a table holds for ``left`` units."""
    choice = np.empty(len(taken), dtype=np.int64)
    for i in range(len(taken) - 1, -1, -1):
        choice[i] = taken[i, left]
        left -= int(excess[i, choice[i]])
    return choice


def multiplier(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> float:
    """Return the Lagrange multiplier of the budget: the least price per byte at which all linears' own best fit.

    Args:
        costs: float [n, w], additive cost of linear i at width a.
        sizes: int [n, w], bytes.
        budget_bytes: upper bound of the summed sizes.

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
