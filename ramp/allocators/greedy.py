"""Greedy allocation by gain per byte, and the repair that brings any allocation to the budget."""

from __future__ import annotations

import numpy as np

from ramp.allocators.knapsack import check


def solve(costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Start from the cheapest allocation and take the change with the largest saved cost per byte until none fits.

    Args:
        costs: float [n, w], additive cost of linear i at width a.
        sizes: int [n, w], bytes.
        budget_bytes: upper bound of the summed sizes.

    Returns:
        int64 [n]; feasible, and at most one change short of the relaxed optimum where costs are convex in bytes.
    """
    costs, sizes = check(costs, sizes, budget_bytes)
    return spend(sizes.argmin(axis=1), costs, sizes, budget_bytes)


def repair(
    choice: np.ndarray, costs: np.ndarray, sizes: np.ndarray, budget_bytes: int, *, always: bool = False
) -> np.ndarray:
    """Bring ``choice`` to the budget: narrow at the least cost per byte until it fits, then spend what is left.

    Args:
        choice: int [n], index of the width of each linear, of any size.
        costs: float [n, w]: a proxy, or minus a policy's log-probabilities.
        sizes: int [n, w], bytes.
        budget_bytes: upper bound of the summed sizes.
        always: spend leftover bytes even where ``costs`` shows no gain, as a policy's log-probabilities may not.

    Returns:
        int64 [n], feasible.

    Raises:
        AllocationError: the budget is below the cheapest allocation, or a cost is not finite.
    """
    costs, sizes = check(costs, sizes, budget_bytes)
    return spend(shrink(choice, costs, sizes, budget_bytes), costs, sizes, budget_bytes, always=always)


def shrink(choice: np.ndarray, costs: np.ndarray, sizes: np.ndarray, budget_bytes: int) -> np.ndarray:
    """Narrow linears, least cost per saved byte first, until the budget is met.

    Args:
        choice: int [n], index of the width of each linear, of any size.
        costs: float64 [n, w], additive cost of linear i at width a.
        sizes: int64 [n, w], bytes.
        budget_bytes: upper bound of the summed sizes. Below the cheapest allocation this does not end: callers refuse
            that first (``knapsack.check``).

    Returns:
        int64 [n], a copy; equal to ``choice`` where that fits.
    """
    choice = np.array(choice, dtype=np.int64)
    rows = np.arange(len(choice))
    while (over := int(sizes[rows, choice].sum()) - budget_bytes) > 0:
        saved = sizes[rows, choice][:, None] - sizes  # [n, w]
        loss = costs - costs[rows, choice][:, None]
        # a change that saves more than is needed is divided by the need, not by what it saves
        price = np.where(saved > 0, loss / np.minimum(np.maximum(saved, 1), over), np.inf)
        linear, width = np.unravel_index(int(price.argmin()), price.shape)
        choice[linear] = width
    return choice


def spend(
    choice: np.ndarray, costs: np.ndarray, sizes: np.ndarray, budget_bytes: int, *, always: bool = False
) -> np.ndarray:
    """Widen linears, largest cost saved per byte first, while the budget allows.

    Arguments as in ``repair``; ``choice`` has to fit. Returns int64 [n], a copy.
    """
    choice = np.array(choice, dtype=np.int64)
    rows = np.arange(len(choice))
    left = budget_bytes - int(sizes[rows, choice].sum())
    while left > 0:
        extra = sizes - sizes[rows, choice][:, None]
        gain = costs[rows, choice][:, None] - costs
        rate = np.where((extra > 0) & (extra <= left), gain / np.maximum(extra, 1), -np.inf)
        linear, width = np.unravel_index(int(rate.argmax()), rate.shape)
        if rate[linear, width] == -np.inf or (rate[linear, width] <= 0 and not always):
            break
        left -= int(extra[linear, width])
        choice[linear] = width
    return choice
