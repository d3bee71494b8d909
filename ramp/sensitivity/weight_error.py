"""Weight errors as sensitivities, after the linearity theorem of HIGGS (Malinovskii et al. 2024, arXiv:2411.17525).

For small relative errors t_l = ||W_l^ - W_l||_F / ||W_l||_F of the linears l, the loss grows by about

    sum_l a_l t_l^2

with one coefficient per linear that does not depend on how the weights were perturbed. The paper states it for
perplexity and finds a_l by adding Gaussian noise of known relative size to one linear at a time (fifteen sizes, least
squares); an exact solver then spends the bits. Kinds:

* ``error``: a_l t_l^2 in nats per token of KL, a_l from the measured KL of Gaussian noise of one relative size, 0.1
  (about what 4 bits do to a weight). Costs one evaluation per linear.
* ``error_plain``: t_l^2 weighted by the linear's share of the parameters, with no coefficient, no text and no unit:
  the error sum as it is used where nothing is measured.

Both see the size of an error and not its direction. The theorem assumes errors that know nothing of the data; those of
GPTQ are chosen to cancel on it, and are larger in this norm than those of rounding to nearest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ramp.bank.bank import Bank
from ramp.scoring.prefix_cache import PrefixScorer
from ramp.sensitivity.one_linear import ModelScore, from_the_change_on, kl_with, log_progress, restored, weight_of
from ramp.sensitivity.setting import SensitivityError, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NOISE = 0.1
"""Relative size of the noise."""


def relative_errors(model: PreTrainedModel, bank: Bank) -> np.ndarray:
    """Return t^2 [n, w]: squared Frobenius norm of the bank's error over that of the folded float weight, no unit."""
    squares = np.empty((len(bank.linears), len(bank.widths)))
    for i, linear in enumerate(bank.linears):
        weight = weight_of(model, linear.name).detach().float()
        whole = float(weight.double().square().sum())
        if whole == 0:
            raise SensitivityError(f"{linear.name} is all zeros: a relative error has no meaning there")
        for a, width in enumerate(bank.widths):
            rounded = bank.dequantize(linear.name, width, device=weight.device)
            squares[i, a] = float((rounded - weight).double().square().sum()) / whole
    return squares


def coefficients(
    model: PreTrainedModel, bank: Bank, score: ModelScore, noise: float = NOISE, *, seed: int = 0
) -> np.ndarray:
    """Return a [n], nats per token: KL / t^2 for noise of relative size t.

    Every draw is scaled to have exactly its size. Leaves the model as it was. One generator per linear, so that a
    linear's noise depends on no other.
    """
    base = score(model, None).kl
    slopes = np.empty(len(bank.linears))
    for i, linear in enumerate(bank.linears):
        weight = weight_of(model, linear.name)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
        old = weight.detach().float().clone()
        draw = torch.randn(old.shape, generator=generator).to(old.device)
        moved = old + draw * (noise * old.norm() / draw.norm())
        with restored(weight):
            loss = kl_with(model, score, linear, moved, f"with noise of size {noise:g} and seed {seed}") - base
        slopes[i] = max(0.0, loss * noise**2 / noise**4)  # least squares of the KL on t^2, at one size
        log_progress(i + 1, len(bank.linears))
    return slopes


def plain(squares: np.ndarray, bank: Bank) -> np.ndarray:
    """Return t^2 [n, w] weighted by each linear's share of the parameters."""
    params = np.array([x.params for x in bank.linears], dtype=np.float64)
    return squares * (params / params.sum())[:, None]


def measure(setting: Setting, kind: str) -> dict[str, Any]:
    """Return the file of one kind."""
    model, bank = setting.model, setting.bank
    squares = relative_errors(model, bank)
    if kind == "error_plain":
        return setting.report(kind, plain(squares, bank), 0, evaluations=0)
    score = from_the_change_on(PrefixScorer(model, setting.windows))
    slopes = coefficients(model, bank, score, seed=setting.seed)
    named = {x.name: float(slope) for x, slope in zip(bank.linears, slopes, strict=True)}
    about = {"evaluations": len(slopes) + 1, "noise": [NOISE], "seed": setting.seed, "coefficients": named}
    return setting.report(kind, slopes[:, None] * squares, setting.passes(len(slopes) + 1), **about)
