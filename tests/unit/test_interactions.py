"""The additive critic's extra terms, against explicit Gaussian conditioning and exhaustive search."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.allocators import knapsack
from ramp.rl.interactions import neighbours
from ramp.rl.surrogate import WHOLE, AdditiveSurrogate, SurrogateParams
from tests.synthetic import linears, synthetic_problem


def explicit(proxy: np.ndarray, surrogate: AdditiveSurrogate, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means of theta [n w] and Q [n w, n w] by forming every unknown: theta, one delta per text, every Q."""
    p = surrogate.params
    n, w = proxy.shape
    flat, cells = proxy.ravel(), n * w
    labels = np.unique(texts)
    first, second = np.nonzero(np.triu(neighbours(linears(1), p.pairs)))
    codes = [(i * w + a, j * w + b) for i, j in zip(first, second, strict=True) for a in range(w) for b in range(w)]
    total = cells + len(labels) * n + len(codes)
    prior = np.zeros((total, total))
    prior[:cells, :cells] = surrogate.covariance
    for k in range(len(labels) * n):
        prior[cells + k, cells + k] = p.text**2
    for k, (one, other) in enumerate(codes):
        prior[cells + len(labels) * n + k, cells + len(labels) * n + k] = p.pair**2 * flat[one] * flat[other]
    design = np.zeros((len(texts), total))
    for row, (choice, text) in enumerate(zip(surrogate.choices, texts, strict=True)):
        taken = np.arange(n) * w + choice
        design[row, taken] = 1
        where = int(np.flatnonzero(labels == text)[0])
        design[row, cells + where * n + np.arange(n)] = flat[taken]
        for k, (one, other) in enumerate(codes):
            design[row, cells + len(labels) * n + k] = (one in taken) and (other in taken)
    best = surrogate.losses.min()
    noise = p.noise * best + p.noise_far * (surrogate.losses - best) + (texts != WHOLE) * p.part_noise * best
    mean = np.concatenate([flat, np.zeros(total - cells)])
    gain = prior @ design.T @ np.linalg.inv(design @ prior @ design.T + np.diag(noise**2))
    mean = mean + gain @ (surrogate.losses - design @ mean)
    pairs = np.zeros((cells, cells))
    for k, (one, other) in enumerate(codes):
        pairs[one, other] = pairs[other, one] = mean[cells + len(labels) * n + k]
    return mean[:cells].reshape(n, w), pairs


@pytest.mark.parametrize("kind", ["adjacent", "block"])
def test_text_and_interactions_are_gaussian_conditioning(kind: str) -> None:
    rng = np.random.default_rng(1)
    proxy = np.sort(rng.uniform(0.001, 0.02, (7, 3)))[:, ::-1].copy()
    surrogate = AdditiveSurrogate(proxy, linears(1), SurrogateParams(pairs=kind, pair=0.5, text=0.3))
    texts = np.array([WHOLE, 0, 1, 0, 1, 1])
    for text in texts:
        choice = rng.integers(0, 3, 7)
        surrogate.add(choice, float(proxy[np.arange(7), choice].sum() * rng.uniform(0.8, 1.2)), int(text))
    theta, pairs = explicit(proxy, surrogate, texts)
    assert surrogate.mean() == pytest.approx(theta, rel=1e-8)
    assert surrogate.pairs is not None
    assert surrogate.pairs.q == pytest.approx(pairs, rel=1e-6, abs=1e-15)
    choice = surrogate.choices[0]
    cells = np.arange(7) * 3 + choice
    assert surrogate.pairs.value(choice) == pytest.approx(pairs[np.ix_(cells, cells)].sum() / 2)
    # the slope is what a change of one linear does, all else equal
    other = choice.copy()
    other[2] = (choice[2] + 1) % 3
    slope = surrogate.pairs.slope(choice)
    change = surrogate.pairs.value(other) - surrogate.pairs.value(choice)
    assert change == pytest.approx(slope[2, other[2]] - slope[2, choice[2]])


def test_a_reference_takes_the_text_away_where_it_is_common() -> None:
    proxy = np.random.default_rng(0).uniform(0.01, 0.02, (7, 3))
    surrogate = AdditiveSurrogate(proxy, linears(1), SurrogateParams(text=5.0, part_noise=0.0))
    start = np.ones(7, dtype=np.int64)
    surrogate.reference = start
    surrogate.add(start, 0.5, 0)  # far from the proxy's sum: a spread of 5 would explain it away as the text's
    near = surrogate.predict(start[None])[0]
    assert near == pytest.approx(0.5, rel=0.02)
    surrogate.reference = None
    assert abs(surrogate.predict(start[None])[0] - proxy[:, 1].sum()) < 0.5 * abs(0.5 - proxy[:, 1].sum())


def test_linearized_knapsacks_reach_the_exhaustive_optimum_of_weak_interactions() -> None:
    problem = synthetic_problem(1)
    assert problem.proxy is not None
    surrogate = AdditiveSurrogate(problem.proxy, problem.linears, SurrogateParams(pairs="block", pair=0.3))
    rng = np.random.default_rng(3)
    for _ in range(25):
        choice = rng.integers(0, 4, problem.n)
        surrogate.add(choice, problem.evaluate(choice).kl)
    theta = surrogate.mean()
    found = surrogate.solve(theta, problem.bytes, problem.budget_bytes)
    everything = np.array(list(itertools.product(range(4), repeat=problem.n)))
    fits = everything[problem.bytes[np.arange(problem.n)[None], everything].sum(axis=1) <= problem.budget_bytes]
    additive = theta[np.arange(problem.n)[None], fits].sum(axis=1)
    promising = fits[np.argsort(additive)[:300]]  # interactions are weak: the optimum is among these
    optimum = surrogate.predict(promising, theta).min()
    plain = knapsack.solve(theta, problem.bytes, problem.budget_bytes)
    reached = surrogate.predict(found[None], theta)[0]
    assert reached <= surrogate.predict(plain[None], theta)[0] + 1e-15
    assert reached <= optimum * 1.01


@settings(deadline=None)  # the first example imports scipy
@given(st.integers(0, 10_000))
def test_a_monotone_critic_never_asks_more_for_a_wider_width(seed: int) -> None:
    rng = np.random.default_rng(seed)
    proxy = np.sort(rng.uniform(0.001, 0.02, (7, 4)))[:, ::-1].copy()
    plain, falling = (AdditiveSurrogate(proxy, linears(1), SurrogateParams(monotone=on)) for on in (False, True))
    for _ in range(6):
        choice, loss = rng.integers(0, 4, 7), float(rng.uniform(0.01, 0.1))
        plain.add(choice, loss)
        falling.add(choice, loss)
    for theta in (falling.mean(), falling.sample(rng)):
        assert (np.diff(theta, axis=1) <= 1e-15).all()
    free = plain.mean()
    already = (np.diff(free, axis=1) <= 0).all(axis=1)
    assert falling.mean()[already] == pytest.approx(free[already])
