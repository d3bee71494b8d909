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

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ramp.bank.bank import Bank
from ramp.models.architecture import LinearSpec
from ramp.models.block_runner import BlockRunner
from ramp.sensitivity.one_linear import OneAtATime
from ramp.sensitivity.setting import SensitivityError, Setting

NOISE = 0.1
"""Relative size of the noise."""


@torch.no_grad()
def relative_errors(runner: BlockRunner, bank: Bank) -> np.ndarray:
    """Return t^2 [n, w]: squared Frobenius norm of the bank's error over that of the folded float weight, no unit."""
    squares = np.empty((len(bank.linears), len(bank.widths)))
    for layer in runner.layers:
        with runner.block(layer) as block:
            modules = runner.linears(block)
            for linear in (x for x in bank.linears if x.layer == layer):
                weight = modules[linear.role].weight.detach().float()
                whole = float(weight.double().square().sum())
                if whole == 0:
                    raise SensitivityError(f"{linear.name} is all zeros: a relative error has no meaning there")
                for a, width in enumerate(bank.widths):
                    rounded = bank.dequantize(linear.name, width, device=weight.device)
                    squares[linear.index, a] = float((rounded - weight).double().square().sum()) / whole
    return squares


def coefficients(setting: Setting, noise: float = NOISE) -> np.ndarray:
    """Return a [n], nats per token: KL / t^2 for noise of relative size t.

    Every draw is scaled to have exactly its size. One generator per linear, so that a linear's noise depends on no
    other.
    """

    def moved(linear: LinearSpec, weight: Tensor) -> Iterator[tuple[int, str, Tensor]]:
        generator = torch.Generator().manual_seed(setting.seed * 1_000_003 + linear.index)
        old = weight.detach().float().clone()
        draw = torch.randn(old.shape, generator=generator).to(old.device)
        yield 0, f"with noise of size {noise:g}", old + draw * (noise * old.norm() / draw.norm())

    values, base = OneAtATime(setting).kl(moved, 1)
    # least squares of the KL on t^2, at one size
    return np.array([max(0.0, loss * noise**2 / noise**4) for loss in values[:, 0] - base])


def plain(squares: np.ndarray, bank: Bank) -> np.ndarray:
    """Return t^2 [n, w] weighted by each linear's share of the parameters."""
    params = np.array([x.params for x in bank.linears], dtype=np.float64)
    return squares * (params / params.sum())[:, None]


def measure(setting: Setting, kind: str) -> dict[str, Any]:
    """Return the file of one kind."""
    bank = setting.bank
    squares = relative_errors(setting.runner(), bank)
    if kind == "error_plain":
        return setting.report(kind, plain(squares, bank), 0, evaluations=0)
    slopes = coefficients(setting)
    named = {x.name: float(slope) for x, slope in zip(bank.linears, slopes, strict=True)}
    about = {"evaluations": len(slopes) + 1, "noise": [NOISE], "seed": setting.seed, "coefficients": named}
    return setting.report(kind, slopes[:, None] * squares, setting.passes(len(slopes) + 1), **about)
