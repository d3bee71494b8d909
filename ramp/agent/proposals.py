"""Symmetric exploration around an allocation: exchanges of widths at equal bytes, each with its mirror image.

Linears of one size trade one step of width: one goes up, the other down, and the bytes stay what they were. The
mirror takes the opposite step of each exchange, so the two evaluations differ along one direction only and their
difference is free of every effect that is even around the incumbent, as in antithetic or central-difference
estimates (Hammersley and Morton 1956; Spall 1992 for random directions).
"""

from __future__ import annotations

import numpy as np


def mirrored_swaps(
    choice: np.ndarray, sizes: np.ndarray, swaps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Two allocations around ``choice``: up to ``swaps`` exchanges, and the same exchanges the other way round.

    Args:
        choice: int [n], the centre.
        sizes: int [n, w], bytes.
        swaps: disjoint exchanges wanted; fewer where no more pairs can trade.
        rng: picks the pairs.

    Returns:
        (allocation, mirror), both int64 [n] with exactly the bytes of ``choice``; None where no two linears of equal
        sizes and equal width can step both ways.
    """
    choice = np.asarray(choice, dtype=np.int64)
    w = sizes.shape[1]
    inner = np.flatnonzero((choice > 0) & (choice < w - 1))  # a linear at the edge of the menu has no mirror
    there, back = choice.copy(), choice.copy()
    free = list(rng.permutation(inner))
    made = 0
    while len(free) > 1 and made < swaps:
        one = free.pop()
        alike = [k for k in free if _trades(sizes, choice, one, k)]
        if not alike:
            continue
        other = alike[int(rng.integers(len(alike)))]
        free.remove(other)
        there[one] += 1
        there[other] -= 1
        back[one] -= 1
        back[other] += 1
        made += 1
    return (there, back) if made else None


def _trades(sizes: np.ndarray, choice: np.ndarray, one: int, other: int) -> bool:
    """Whether a step up of one and a step down of the other, and the reverse, both leave the bytes as they are."""
    up = sizes[one, choice[one] + 1] - sizes[one, choice[one]]
    down = sizes[other, choice[other]] - sizes[other, choice[other] - 1]
    other_up = sizes[other, choice[other] + 1] - sizes[other, choice[other]]
    one_down = sizes[one, choice[one]] - sizes[one, choice[one] - 1]
    return bool(up == down and other_up == one_down)
