"""The additive critic against explicit Gaussian conditioning."""

import numpy as np
import pytest

from ramp.rl.additive_critic import WHOLE, AdditiveSurrogate, SurrogateParams
from tests.synthetic import linears


def explicit(proxy: np.ndarray, surrogate: AdditiveSurrogate) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean [n w] and covariance [n w, n w] of theta by forming every unknown: theta, and delta per text."""
    p, texts = surrogate.params, surrogate.texts
    n, w = proxy.shape
    flat, cells = proxy.ravel(), n * w
    labels = np.unique(texts)
    total = cells + len(labels) * n
    prior = np.zeros((total, total))
    prior[:cells, :cells] = surrogate.covariance
    prior[cells:, cells:] = p.text**2 * np.eye(len(labels) * n)
    design = np.zeros((len(texts), total))
    for row, (choice, text) in enumerate(zip(surrogate.choices, texts, strict=True)):
        taken = np.arange(n) * w + choice
        design[row, taken] = 1
        design[row, cells + int(np.flatnonzero(labels == text)[0]) * n + np.arange(n)] = flat[taken]
    best = surrogate.losses.min()
    noise = p.noise * best + p.noise_far * (surrogate.losses - best) + (texts != WHOLE) * p.part_noise * best
    mean = np.concatenate([flat, np.zeros(total - cells)])
    gain = prior @ design.T @ np.linalg.inv(design @ prior @ design.T + np.diag(noise**2))
    mean = mean + gain @ (surrogate.losses - design @ mean)
    covariance = prior - gain @ design @ prior
    return mean[:cells], covariance[:cells, :cells]


@pytest.mark.parametrize("text", [0.0, 0.3])
def test_means_and_draws_are_gaussian_conditioning(text: float) -> None:
    rng = np.random.default_rng(1)
    proxy = np.sort(rng.uniform(0.001, 0.02, (7, 3)))[:, ::-1].copy()
    surrogate = AdditiveSurrogate(proxy, linears(1), SurrogateParams(text=text))
    for part in (WHOLE, 0, 1, 0, 1, 1):
        choice = rng.integers(0, 3, 7)
        surrogate.add(choice, float(proxy[np.arange(7), choice].sum() * rng.uniform(0.8, 1.2)), part)
    surrogate.add(np.zeros(7, dtype=int), float("inf"))  # left out
    mean, covariance = explicit(proxy, surrogate)
    assert surrogate.mean().ravel() == pytest.approx(mean, rel=1e-8)
    draws = np.array([surrogate.sample(rng).ravel() for _ in range(4000)])
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs(draws.mean(axis=0) - mean).max() < 5 * deviation.max() / np.sqrt(len(draws))
    assert draws.std(axis=0) == pytest.approx(deviation, rel=0.1)
    assert surrogate.sample(rng, 0.0) == pytest.approx(surrogate.mean())


def test_before_any_evaluation_the_mean_is_the_proxy() -> None:
    proxy = np.random.default_rng(0).uniform(0.01, 0.02, (7, 3))
    assert np.array_equal(AdditiveSurrogate(proxy, linears(1)).mean(), proxy)


def test_a_reference_takes_the_text_away_where_it_is_common() -> None:
    proxy = np.random.default_rng(0).uniform(0.01, 0.02, (7, 3))
    surrogate = AdditiveSurrogate(proxy, linears(1), SurrogateParams(text=5.0, part_noise=0.0))
    start = np.ones(7, dtype=np.int64)
    surrogate.reference = start
    surrogate.add(start, 0.5, 0)  # far from the proxy's sum: a spread of 5 would explain it away as the text's
    assert surrogate.mean()[:, 1].sum() == pytest.approx(0.5, rel=0.02)
    surrogate.reference = None
    free, prior = surrogate.mean()[:, 1].sum(), proxy[:, 1].sum()
    assert abs(free - prior) < 0.5 * abs(0.5 - prior)
