"""AWQ (Lin et al. 2023, arXiv:2306.00978): scale important channels up before rounding. SmoothQuant's scale too.

Multiplying column j of a weight by s_j and dividing the activation by it changes nothing in exact arithmetic, but the
rounding error of salient columns shrinks by s_j. AWQ takes s = mean|X|^r and searches r (eq. 4 and 5 of the paper) for
the least output error at the widths in question. The scales are folded into the preceding operation by
``ramp.calibration.folding``; this file has pure functions of weights and statistics. The error is exact over the
calibration tokens, tr(dW H dW^T) with H = X^T X / n, where the original runs a sample of tokens through the layer
(``tests.reference_quantizers.search_scale_reference`` does). The second half of AWQ, its clip search, is
``ramp.quantizers.clip``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ramp.quantizers.affine import QuantizeError, as_float, check_weight, label, round_trip
from ramp.quantizers.gptq import check_hessian, output_error

GRID = 20
"""Points of the search over r in [0, 1): 0, 0.05, ..., 0.95, as in llm-awq (``n_grid = 20``)."""

SCALE_FLOOR = 1e-4
"""Least value of mean|X|^r before normalising, as in llm-awq: a channel that never fires must not divide by zero."""

FINALISTS = 3
"""Candidates that are scored on all rows after all were ranked on some."""

STATISTIC_FLOOR = 1e-5
"""Least statistic and least scale in SmoothQuant, as in its reference implementation."""


def check_statistic(values: Tensor, d_in: int, what: str, name: str) -> None:
    """Raise ``QuantizeError`` unless ``values`` is [d_in], finite and nowhere negative."""
    if values.shape != (d_in,) or not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        raise QuantizeError(f"{label(name)}: {what} {list(values.shape)} must be {d_in} finite numbers of at least 0")


def awq_scale(absmean: Tensor, ratio: float) -> Tensor:
    """Return s = mean|X|^r, normalised to sqrt(max * min) = 1; absmean and result float [d_in]. r = 0 gives ones."""
    scale = absmean.pow(ratio).clamp(min=SCALE_FLOOR)
    return scale / (scale.max() * scale.min()).sqrt()


def duo_scale(absmean: Tensor, weights_absmean: Tensor, ratio: float) -> Tensor:
    """Return s = mean|X|^r / mean|W|^(1 - r), normalised as ``awq_scale``; statistics and result float [d_in].

    AutoAWQ's *duo scaling* (casper-hansen/AutoAWQ, ``_compute_best_scale``), with the plain mean over all rows, which
    did better than its group-wise normalised one.
    """
    scale = (absmean.pow(ratio) / (weights_absmean.pow(1 - ratio) + SCALE_FLOOR)).clamp(min=SCALE_FLOOR)
    return scale / (scale.max() * scale.min()).sqrt()


def smoothquant_scale(absmax: Tensor, weights_absmax: Tensor, alpha: float) -> Tensor:
    """Return s_j = max|X_j|^a / max|W_:j|^(1 - a) (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438, eq. 4).

    absmax: largest activation per channel; weights_absmax: largest weight per input column over all linears that
    share the input; both float [d_in]. alpha in [0, 1]; 0.5 in the paper, 0.85 for Llama-2 in its repository.
    """
    if not 0 <= alpha <= 1:
        raise QuantizeError(f"SmoothQuant's alpha is between 0 and 1, not {alpha}")
    for what, values in (("activation maximum", absmax), ("weight maximum", weights_absmax)):
        check_statistic(values, absmax.shape[0], what, "SmoothQuant")
    top = absmax.clamp(min=STATISTIC_FLOOR).pow(alpha)
    return (top / weights_absmax.clamp(min=STATISTIC_FLOOR).pow(1 - alpha)).clamp(min=STATISTIC_FLOOR)


def scaled_error(
    weights: Sequence[Tensor],
    hessian: Tensor,
    scale: Tensor,
    bits: Sequence[int],
    group_size: int,
    name: str = "",
    *,
    sym: bool = False,
) -> float:
    """Return the sum over weights [d_out_i, d_in] and widths of tr(D H D^T), D = Q(W diag(s)) diag(1/s) - W."""
    total = 0.0
    for weight in weights:
        group = check_weight(weight, bits[0], group_size, name)
        scaled = weight * scale
        for width in bits:
            rounded = round_trip(scaled, width, group, name=name, sym=sym)
            total += output_error(rounded.div_(scale).sub_(weight), hessian)
    return total


class ScaleSearch:
    """The search of one input's AWQ scale, shared by all its linears; every error is computed once, for any widths.

    weights: float [d_out_i, d_in] each; hessian: float [d_in, d_in], X^T X / n of the unscaled input; absmean: float
    [d_in]; ``tie`` maps a candidate to the nearest that the fold allows (one scale per key/value channel for v -> o).
    An error costs d_out * d_in^2 multiplications for each candidate and width; with ``max_rows`` every candidate is
    scored on at most that many evenly spaced output rows of each weight (rows are independent), and only the best
    ``FINALISTS`` of them on all rows. ``duo`` adds ``duo_scale`` of the same ratios to the candidates. Raises
    ``QuantizeError`` naming ``name``: an absmean or Hessian that is not finite, an input that no token reached.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        hessian: Tensor,
        absmean: Tensor,
        group_size: int,
        grid: int = GRID,
        tie: Callable[[Tensor], Tensor] | None = None,
        *,
        max_rows: int | None = None,
        name: str = "",
        sym: bool = False,
        duo: bool = False,
    ) -> None:
        check_statistic(absmean, hessian.shape[0], "mean activation", name)
        check_hessian(hessian, name)
        self._hessian, self._group_size, self._name, self._sym = as_float(hessian), group_size, name, sym
        absmean = absmean.to(self._hessian.dtype)
        self._whole = [w.detach().to(absmean.dtype) for w in weights]
        self._some = None
        if max_rows is not None and any(w.shape[0] > max_rows for w in self._whole):
            self._some = [spread_rows(w, max_rows) for w in self._whole]
        scales = [awq_scale(absmean, step / grid) for step in range(1, grid)]
        if duo:
            weights_absmean = torch.cat([w.abs() for w in self._whole]).mean(0)
            scales += [duo_scale(absmean, weights_absmean, step / grid) for step in range(grid)]
        if tie is not None:
            scales = [tie(scale) for scale in scales]
        self._scales = [torch.ones_like(absmean), *scales]  # r = 0, no scaling, is always among the last
        self._errors: dict[tuple[int, int, int, bool], float] = {}  # scale, weight, width, on some rows -> error

    def _error(self, index: int, bits: Sequence[int], weights: Sequence[Tensor]) -> float:
        """Return ``scaled_error`` of a scale, summed in its order."""
        total = 0.0
        for number, weight in enumerate(weights):
            for width in bits:
                key = (index, number, width, weights is self._some)
                if key not in self._errors:
                    self._errors[key] = scaled_error(
                        [weight], self._hessian, self._scales[index], [width], self._group_size, self._name,
                        sym=self._sym,
                    )  # fmt: skip
                total += self._errors[key]
        return total

    def best(self, bits: Sequence[int]) -> tuple[Tensor, float, float]:
        """Return (scale [d_in], error before, error after) for widths whose errors are summed.

        The error after is at most the error before.
        """
        left = list(range(1, len(self._scales)))
        if self._some is not None:
            errors = [self._error(index, bits, self._some) for index in left]
            left = sorted(left[place] for place in np.argsort(errors, kind="stable")[:FINALISTS])
        best, before = 0, self._error(0, bits, self._whole)
        after = before
        for index in left:
            error = self._error(index, bits, self._whole)
            if error < after:
                best, after = index, error
        return self._scales[best], before, after


def spread_rows(weight: Tensor, max_rows: int) -> Tensor:
    """Return at most ``max_rows`` rows of a weight [d_out, d_in], evenly spaced from the first to the last."""
    if weight.shape[0] <= max_rows:
        return weight
    return weight[torch.linspace(0, weight.shape[0] - 1, max_rows, device=weight.device).round().long()]
