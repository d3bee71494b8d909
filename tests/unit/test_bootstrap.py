"""Block bootstrap over windows: against closed forms, and the properties that pairing must have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.evaluation.bootstrap import BootstrapError, Estimate, Sums, interval, mean_kl, paired


def windows(nll: np.ndarray, kl: np.ndarray, tokens: int = 100) -> list[dict[str, float]]:
    return [
        {"window": i, "tokens": tokens, "nll": float(a), "kl": float(b)}
        for i, (a, b) in enumerate(zip(nll, kl, strict=True))
    ]


def noisy(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(300, 30, n), rng.gamma(4.0, 3.0, n)


def test_point_values_are_the_definitions_and_tokens_weigh_windows():
    nll, kl = noisy(12)
    rows = [*windows(nll, kl), {"window": 12, "tokens": 400, "nll": 900.0, "kl": 5.0}]
    assert interval(rows, "ppl").value == pytest.approx(math.exp((nll.sum() + 900) / 1600), rel=1e-12)
    assert interval(rows, "kl").value == pytest.approx((kl.sum() + 5) / 1600, rel=1e-12)


def test_against_scipy():
    from scipy.stats import bootstrap

    _, kl = noisy(60, seed=5)
    ours = interval(windows(kl, kl), "kl", resamples=20000)
    theirs = bootstrap((kl / 100,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, rel=0.01)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, rel=0.01)


def difference(a: Sums, b: Sums) -> Sums:
    return mean_kl(a) - mean_kl(b)


def test_pairing_removes_what_rows_share():
    """Rows that differ by a constant have a difference without spread, however much the text itself varies."""
    nll, kl = noisy(30)
    a, b = windows(nll + 5, kl + 2), windows(nll, kl)
    found = paired([a, b], difference)
    assert found.value == pytest.approx(0.02)
    assert found.high - found.low < 1e-12
    assert interval(a, "kl").high - interval(a, "kl").low > 0.02


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=2, max_size=20))
def test_difference_is_antisymmetric_ordered_and_zero_on_itself(rows):
    a_kl, b_kl = np.array(rows).T
    a, b = windows(a_kl, a_kl), windows(b_kl, b_kl)
    there, back = (paired([x, y], difference, resamples=200) for x, y in ((a, b), (b, a)))
    assert there.value == pytest.approx(-back.value, abs=1e-12)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert there.low <= there.high
    assert paired([a, a], difference, resamples=200) == Estimate(0, 0, 0)


def test_same_seed_same_interval_and_order_of_rows_does_not_matter():
    nll, kl = noisy(20)
    rows = windows(nll, kl)
    assert interval(rows, "ppl", seed=4) == interval(list(reversed(rows)), "ppl", seed=4)
    assert interval(rows, "ppl", seed=4) != interval(rows, "ppl", seed=5)


def test_rows_of_other_windows_are_refused():
    nll, kl = noisy(6)
    rows = windows(nll, kl)
    for other in (rows[:5], windows(nll, kl, tokens=99)):
        with pytest.raises(BootstrapError, match="different windows"):
            paired([rows, other], difference)
    with pytest.raises(BootstrapError, match="no window"):
        paired([[]], lambda a: a[..., 0])


def test_one_window_has_no_interval_and_missing_values_spoil_it():
    one = interval([{"window": 0, "tokens": 9, "nll": 9.0, "kl": 0.9}], "kl")
    assert one.value == pytest.approx(0.1)
    assert (one.low, one.high, one.side(0.0)) == (None, None, 0)
    broken = windows(*noisy(5))
    broken[3]["kl"] = None  # what a metrics file holds for NaN
    found = interval(broken, "kl")
    assert math.isnan(found.value)
    assert found.low is None
    assert math.isfinite(interval(broken, "ppl").low)
