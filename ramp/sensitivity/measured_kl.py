"""Measured KL of single linears: one evaluation for each linear at each width.

Two kinds, by the state of all other linears:

* ``kl``: the others are float. The n * w numbers are added up as they stand.
* ``kl_cheapest``: the others are at their cheapest width, and the number is the change of KL against the cheapest
  allocation (0 at the cheapest width itself, mostly negative elsewhere): gains are measured among other errors,
  as a search from below meets them. exllamav3's optimizer measures this way (``measure_model.py``: every group at every
  higher rate, all else at the lowest) and then buys greedily.

That single losses add up at all is an approximation, and EvoPress (Sieberling et al. 2024, arXiv:2410.14649) shows
models where it fails; ``ramp.sensitivity.fisher`` makes the same one with a quadratic model in place of measurements.

JSON as in ``ramp.sensitivity.one_linear``. Values are nats per token; n * w + 1 evaluations, for ``kl_cheapest`` n *
(w - 1) + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ramp.bank.bank import Bank
from ramp.core import cli
from ramp.core.files import write_json
from ramp.sensitivity.kinds import kinds_of
from ramp.sensitivity.one_linear import (
    ModelScore,
    Progress,
    ProxyError,
    Setting,
    kl_with,
    log_progress,
    options,
    restored,
    weight_of,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = kinds_of("ramp.sensitivity.measured_kl")


def one_at_a_time(
    model: PreTrainedModel, bank: Bank, score: ModelScore, held: np.ndarray | None, progress: Progress | None
) -> np.ndarray:
    """Return the KL with linear i at width a and all others as in ``model``, less the KL of ``model`` itself: [n, w].

    held: int [n], the width index that ``model`` already has, which is not measured; None: it has none.
    """
    base = score(model, None).kl
    if not np.isfinite(base):
        raise ProxyError(f"the KL of {bank.path} before any change is {base}: use --dtype float32")
    values = np.zeros((len(bank.linears), len(bank.widths)))
    for i, linear in enumerate(bank.linears):
        weight = weight_of(model, linear.name)
        with restored(weight):
            for a, width in enumerate(bank.widths):
                if held is None or a != held[i]:
                    entry = bank.dequantize(linear.name, width, weight.dtype, weight.device)
                    values[i, a] = kl_with(model, score, linear, entry, f"at {width} bits") - base
        if progress is not None:
            progress(i + 1, len(bank.linears))
    return values


def kl_proxy(
    model: PreTrainedModel, bank: Bank, score: ModelScore, kind: str = "kl", progress: Progress | None = None
) -> np.ndarray:
    """Return the measured sensitivities: float64 [n, w], nats per token.

    model: the folded float model of the bank; ``score`` measures against it. ``kl`` leaves it as it was,
    ``kl_cheapest`` leaves the cheapest allocation in it. Raises ``ProxyError`` for a KL that is not finite.
    """
    if kind == "kl":  # a KL below zero is rounding
        return one_at_a_time(model, bank, score, None, progress).clip(min=0)
    if kind != "kl_cheapest":
        raise ProxyError(f"unknown kind '{kind}' (known: {', '.join(KINDS)})")
    cheapest = bank.bytes().argmin(axis=1)
    bank.assemble(model, cheapest)
    return one_at_a_time(model, bank, score, cheapest, progress)


def evaluations(bank: Bank, kind: str) -> int:
    """Return how often ``kl_proxy`` scores a model."""
    return len(bank.linears) * (len(bank.widths) - (kind == "kl_cheapest")) + 1


def main(argv: Sequence[str] | None = None) -> int:
    """Write the measured sensitivities of one bank."""
    parser = options("Measured KL of every linear at every width, one at a time.")
    parser.add_argument("--kind", choices=KINDS, default="kl", help="what the others are: float, or at their cheapest")
    args = parser.parse_args(argv)
    setting = Setting.open(args)

    values = kl_proxy(setting.model, setting.bank, setting.scorer(), args.kind, log_progress)
    write_json(args.out, setting.report(args.kind, values, evaluations(setting.bank, args.kind)))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
