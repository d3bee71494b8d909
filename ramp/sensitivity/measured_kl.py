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

from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.bank.bank import Bank
from ramp.scoring.prefix_cache import PrefixScorer
from ramp.sensitivity.one_linear import ModelScore, from_the_change_on, kl_with, log_progress, restored, weight_of
from ramp.sensitivity.setting import SensitivityError, Setting

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def one_at_a_time(model: PreTrainedModel, bank: Bank, score: ModelScore, held: np.ndarray | None) -> np.ndarray:
    """Return the KL with linear i at width a and all others as in ``model``, less the KL of ``model`` itself: [n, w].

    held: int [n], the width index that ``model`` already has, which is not measured; None: it has none.
    """
    base = score(model, None).kl
    if not np.isfinite(base):
        raise SensitivityError(f"the KL of {bank.path} before any change is {base}: use --dtype float32")
    values = np.zeros((len(bank.linears), len(bank.widths)))
    for i, linear in enumerate(bank.linears):
        weight = weight_of(model, linear.name)
        with restored(weight):
            for a, width in enumerate(bank.widths):
                if held is None or a != held[i]:
                    entry = bank.dequantize(linear.name, width, weight.dtype, weight.device)
                    values[i, a] = kl_with(model, score, linear, entry, f"at {width} bits") - base
        log_progress(i + 1, len(bank.linears))
    return values


def kl_proxy(model: PreTrainedModel, bank: Bank, score: ModelScore, kind: str = "kl") -> np.ndarray:
    """Return the measured sensitivities: float64 [n, w], nats per token.

    model: the folded float model of the bank; ``score`` measures against it. ``kl`` leaves it as it was,
    ``kl_cheapest`` leaves the cheapest allocation in it. Raises ``SensitivityError`` for a KL that is not finite.
    """
    if kind == "kl":  # a KL below zero is rounding
        return one_at_a_time(model, bank, score, None).clip(min=0)
    cheapest = bank.bytes().argmin(axis=1)
    bank.assemble(model, cheapest)
    return one_at_a_time(model, bank, score, cheapest)


def measure(setting: Setting, kind: str) -> dict[str, Any]:
    """Return the file of one kind."""
    score = from_the_change_on(PrefixScorer(setting.model, setting.windows))  # against the model while it is float
    values = kl_proxy(setting.model, setting.bank, score, kind)
    evaluations = len(values) * (values.shape[1] - (kind == "kl_cheapest")) + 1
    return setting.report(kind, values, setting.passes(evaluations), evaluations=evaluations)
