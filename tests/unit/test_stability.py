"""The benchmark of where two machines part: what it counts."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.stability import Found, difference


def found(numbers: list[float], kl: float | None = None) -> Found:
    return Found({"a": np.array(numbers[:2]), "b": np.array(numbers[2:])}, kl, 1.0)


def test_equal_runs_differ_in_nothing() -> None:
    nothing = {"codes_changed": 0.0, "largest_change": 0.0, "kl_change": 0.0}
    assert difference(found([1, 2, 3, 4], 0.1), found([1, 2, 3, 4], 0.1)) == nothing


def test_a_difference_is_counted_and_measured() -> None:
    seen = difference(found([1, 2, 3, 4], 0.1), found([1, 2, 3, 5], 0.11))
    assert seen == {"codes_changed": 0.25, "largest_change": 0.25, "kl_change": pytest.approx(0.1)}
    assert difference(found([1, 2, 3, 4]), found([1, 2, 3, 4]))["kl_change"] is None
