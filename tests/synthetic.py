"""A small allocation problem with a known loss: additive terms that the proxy misjudges, and pairwise interactions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ramp.models.architecture import ROLES, SITES, LinearSpec
from ramp.problem.budget import budget_bytes
from ramp.problem.problem import Evaluator, Problem
from ramp.quantizers.sizes import bytes_matrix
from ramp.quantizers.widths import Width, bits_of, group_of
from ramp.scoring.score_type import Score

SHAPES = dict.fromkeys("qkvo", (64, 64)) | {"gate": (128, 64), "up": (128, 64), "down": (64, 128)}
GROUP_SIZE = 32


def linears(layers: int) -> list[LinearSpec]:
    """The linears of a model with ``layers`` blocks of hidden size 64."""
    made: list[LinearSpec] = []
    for layer in range(layers):
        for role in ROLES:
            d_out, d_in = SHAPES[role]
            block = f"model.layers.{layer}"
            made.append(
                LinearSpec(f"{block}.{role}", layer, role, d_out, d_in, f"{block}.{SITES[role]}", len(made), False)
            )
    return made


def steps(widths: tuple[Width, ...]) -> np.ndarray:
    """Bits of each width above the first; what its own groups cost beyond the usual ones counts as bits."""
    groups = [group_of(width, GROUP_SIZE) for width in widths]
    extra = [(16 + bits_of(width)) * (1 / group - 1 / GROUP_SIZE) for width, group in zip(widths, groups, strict=True)]
    rates = np.array([bits_of(width) for width in widths]) + np.array(extra)
    return rates - rates[0]


def losses(specs: list[LinearSpec], widths: tuple[Width, ...], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(proxy [n, w], true additive terms [n, w], interactions [n, n]) of about 0.1 nats in all."""
    rng = np.random.default_rng(seed)
    n = len(specs)
    sensitivity = np.exp(rng.normal(size=n)) * np.array([x.params for x in specs])
    proxy = sensitivity[:, None] * 4.0 ** -steps(widths)[None, :]
    proxy *= 0.2 / proxy[:, 0].sum()
    truth = proxy * np.exp(0.5 * rng.normal(size=(n, 1)) + 0.1 * rng.normal(size=proxy.shape))
    pairs = 0.1 * rng.normal(size=(n, n)) / np.sqrt(n)
    return proxy, truth, pairs + pairs.T


def evaluator(truth: np.ndarray, pairs: np.ndarray, noise: float = 0.0, seed: int = 0) -> Callable[[np.ndarray], Score]:
    """KL = sum t + sqrt(t)' P sqrt(t), times a factor of the text (``noise``) that depends on the choice alone."""

    def evaluate(choice: np.ndarray) -> Score:
        terms = truth[np.arange(len(truth)), choice]
        root = np.sqrt(terms)
        kl = max(float(terms.sum() + root @ pairs @ root), 1e-6)
        kl *= 1 + noise * np.random.default_rng([seed, *(int(x) for x in choice)]).normal()
        return Score(kl, float(np.exp(3 + kl)), 3 + kl, 2048)

    return evaluate


def synthetic_problem(
    layers: int = 2,
    budget: float = 3.65,
    widths: tuple[Width, ...] = (3, 4, 5, 6),
    seed: int = 0,
    evaluate: Callable[[np.ndarray], Score] | None = None,
    select: Callable[[np.ndarray], Score] | None = None,
) -> Problem:
    """The problem; pass ``evaluate`` and ``select`` to wrap or replace the loss."""
    specs = linears(layers)
    proxy, truth, pairs = losses(specs, widths, seed)
    features = np.random.default_rng([seed, 1]).normal(size=(len(specs), 9)).astype(np.float32)
    features[:, 4] = np.linspace(-1, 1, len(specs))
    return Problem(
        model="synthetic",
        linears=specs,
        widths=widths,
        bytes=bytes_matrix(specs, widths, GROUP_SIZE),
        budget_bytes=budget_bytes(specs, budget, GROUP_SIZE),
        budget_bits=budget,
        features=features,
        proxy=proxy,
        evaluate=evaluate or Evaluator(evaluator(truth, pairs)),
        select=select or Evaluator(evaluator(truth, pairs, noise=0.01)),
        proxy_tokens=3 * 2048,
        nll_float=3.0,
        bytes_at=lambda bits: budget_bytes(specs, bits, GROUP_SIZE),
    )
