"""Weight errors as sensitivities, after the linearity theorem of HIGGS (Malinovskii et al. 2024, arXiv:2411.17525).

For small relative errors t_l = ||W_l^ - W_l||_F / ||W_l||_F of the linears l, the loss grows by about

    sum_l a_l t_l^2

with one coefficient per linear that does not depend on how the weights were perturbed. The paper states it for
perplexity and finds a_l by adding Gaussian noise of known relative size to one linear at a time (fifteen sizes, least
squares); an exact solver then spends the bits. Kinds:

* ``error``: a_l t_l^2 in nats per token of KL, a_l from the measured KL of Gaussian noise of relative size ``--noise``
  (by default one size, 0.1: about what 4 bits do to a weight), fitted by least squares through the origin. Costs one
  evaluation per linear and size.
* ``error_plain``: t_l^2 weighted by the linear's share of the parameters, with no coefficient, no text and no unit:
  the error sum as it is used where nothing is measured.

Both see the size of an error and not its direction. The theorem assumes errors that know nothing of the data; those of
GPTQ are chosen to cancel on it, and are larger in this norm than those of rounding to nearest.

JSON as in ``ramp.sensitivity.one_linear``; ``error`` adds ``noise``, ``seed`` and ``coefficients`` {name: a_l, nats
per token}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

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

KINDS = kinds_of("ramp.sensitivity.weight_error")
NOISE = 0.1


def relative_errors(model: PreTrainedModel, bank: Bank) -> np.ndarray:
    """Return t^2 [n, w]: squared Frobenius norm of the bank's error over that of the folded float weight, no unit."""
    squares = np.empty((len(bank.linears), len(bank.widths)))
    for i, linear in enumerate(bank.linears):
        weight = weight_of(model, linear.name).detach().float()
        whole = float(weight.double().square().sum())
        if whole == 0:
            raise ProxyError(f"{linear.name} is all zeros: a relative error has no meaning there")
        for a, width in enumerate(bank.widths):
            rounded = bank.dequantize(linear.name, width, device=weight.device)
            squares[i, a] = float((rounded - weight).double().square().sum()) / whole
    return squares


def coefficients(
    model: PreTrainedModel,
    bank: Bank,
    score: ModelScore,
    noise: Sequence[float] = (NOISE,),
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return a [n], nats per token: least squares through the origin of KL = a t^2 over relative noise sizes t.

    Every draw is scaled to have exactly its size. Leaves the model as it was. One generator per linear, so that a
    linear's noise depends on no other.
    """
    if not noise or min(noise) <= 0:
        raise ProxyError(f"noise sizes {list(noise)} should be one or more numbers above 0, such as {NOISE}")
    sizes = np.asarray(noise, dtype=np.float64)
    base = score(model, None).kl
    slopes = np.empty(len(bank.linears))
    for i, linear in enumerate(bank.linears):
        weight = weight_of(model, linear.name)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
        old = weight.detach().float().clone()
        losses = np.empty(len(sizes))
        with restored(weight):
            for j, size in enumerate(sizes):
                draw = torch.randn(old.shape, generator=generator).to(old.device)
                moved = old + draw * (float(size) * old.norm() / draw.norm())
                losses[j] = kl_with(model, score, linear, moved, f"with noise of size {size:g} and seed {seed}") - base
        slopes[i] = max(0.0, float(losses @ sizes**2 / (sizes**4).sum()))
        if progress is not None:
            progress(i + 1, len(bank.linears))
    return slopes


def plain(squares: np.ndarray, bank: Bank) -> np.ndarray:
    """Return t^2 [n, w] weighted by each linear's share of the parameters."""
    params = np.array([x.params for x in bank.linears], dtype=np.float64)
    return squares * (params / params.sum())[:, None]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the error sensitivities of one bank."""
    parser = options("Relative weight error of every linear at every width, weighted by what noise of that size costs.")
    parser.add_argument("--kind", choices=KINDS, default="error", help="with measured coefficients, or plain")
    parser.add_argument("--noise", type=float, nargs="+", default=[NOISE], help="relative sizes of the injected noise")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    args = parser.parse_args(argv)
    setting = Setting.open(args)
    model, bank = setting.model, setting.bank
    squares = relative_errors(model, bank)
    if args.kind == "error_plain":
        write_json(args.out, setting.report(args.kind, plain(squares, bank), 0))
        return 0

    slopes = coefficients(model, bank, setting.scorer(), args.noise, seed=args.seed, progress=log_progress)
    named = {x.name: float(slope) for x, slope in zip(bank.linears, slopes, strict=True)}
    about = {"noise": args.noise, "seed": args.seed, "coefficients": named}
    evaluations = len(bank.linears) * len(args.noise) + 1
    write_json(args.out, setting.report(args.kind, slopes[:, None] * squares, evaluations, **about))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
