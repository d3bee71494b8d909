"""Measured KL of single linears: one evaluation for each linear at each width.

Two kinds, by the state of all other linears:

* ``kl``: the others are float. The n * w numbers are added up as they stand.
* ``kl_cheapest``: the others are at their cheapest width, and the number is the change of KL against the cheapest
  allocation (0 at the cheapest width itself, mostly negative elsewhere): gains are measured among other errors,
  as a search from below meets them. exllamav3's optimizer measures this way (``measure_model.py``: every group at every
  higher rate, all else at the lowest) and then buys greedily.

That single losses add up at all is an approximation, and EvoPress (Sieberling et al. 2024, arXiv:2410.14649) shows
models where it fails; ``ramp.sensitivity.fisher`` makes the same one with a quadratic model in place of measurements.

They cost n * w + 1 evaluations, ``kl_cheapest`` n * (w - 1) + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from ramp.models.architecture import LinearSpec
from ramp.sensitivity.one_linear import OneAtATime
from ramp.sensitivity.setting import Setting


def cheapest_widths(setting: Setting) -> np.ndarray:
    """Return the index of every linear's cheapest width, int [n]."""
    return setting.bank.bytes().argmin(axis=1)


def in_the_cheapest(setting: Setting) -> OneAtATime:
    """Return candidates that differ in one linear from the cheapest allocation."""
    chosen = dict(zip((x.name for x in setting.bank.linears), cheapest_widths(setting), strict=True))

    def change(state: dict[str, Tensor]) -> None:
        for name, old in state.items():
            if (linear := name.removesuffix(".weight")) in chosen:
                width = setting.bank.widths[chosen[linear]]
                state[name] = setting.bank.dequantize(linear, width, old.dtype, old.device)

    return OneAtATime(setting, setting.runner(change))


def kl_proxy(setting: Setting, kind: str = "kl") -> np.ndarray:
    """Return the measured sensitivities: float64 [n, w], nats per token.

    Raises ``SensitivityError`` for a KL that is not finite.
    """
    bank = setting.bank
    held = cheapest_widths(setting) if kind == "kl_cheapest" else np.full(len(bank.linears), -1)

    def entries(linear: LinearSpec, weight: Tensor) -> Iterator[tuple[int, str, Tensor]]:
        for a, width in enumerate(bank.widths):
            if a != held[linear.index]:  # which the base has: nothing to measure
                yield a, f"at {width} bits", bank.dequantize(linear.name, width, weight.dtype, weight.device)

    candidates = in_the_cheapest(setting) if kind == "kl_cheapest" else OneAtATime(setting)
    values, base = candidates.kl(entries, len(bank.widths))
    values -= base
    if kind == "kl":  # a KL below zero is rounding
        return values.clip(min=0)
    values[np.arange(len(values)), held] = 0
    return values


def measure(setting: Setting, kind: str) -> dict[str, Any]:
    """Return the file of one kind."""
    values = kl_proxy(setting, kind)
    evaluations = len(values) * (values.shape[1] - (kind == "kl_cheapest")) + 1
    return setting.report(kind, values, setting.passes(evaluations), evaluations=evaluations)
