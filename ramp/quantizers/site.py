"""One call for all quantizers: the linears that read one input, at several widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ramp.quantizers.affine import QuantizedLinear, QuantizeError, quantize_rtn
from ramp.quantizers.clip import quantize_clipped
from ramp.quantizers.gptq import prepare, quantize_gptq_site


def needs_hessian(quantizer: str | Callable[..., QuantizedLinear], params: Any = None) -> bool:
    """Whether a quantizer looks at activations: all but plain rounding do, since its clip search is AWQ's, by output
    error (``ramp.quantizers.clip``)."""
    return quantizer != "rtn" or getattr(params, "clip", "none") != "none"


def quantize_site(
    weights: Mapping[str, Tensor],
    hessian: Tensor | None,
    widths: Mapping[str, Sequence[int]],
    group_size: int,
    quantizer: str | Callable[..., QuantizedLinear],
    params: Any = None,
) -> dict[tuple[str, int], QuantizedLinear]:
    """Every linear of one site at its widths: (name, bits) -> QuantizedLinear.

    weights: name -> float [d_out_i, d_in]; hessian: float [d_in, d_in], X^T X / n, None where ``needs_hessian`` is
    false; widths: name -> bits wanted; params: the method's parameters (``ramp.methods.RtnParams``, ``GptqParams``, or
    a custom quantizer's own), None for defaults. GPTQ factors the Hessian once for the whole site.
    """
    given = params.model_dump() if params is not None else {}
    sym = bool(given.get("sym", False))
    jobs = [(name, bits) for name in weights for bits in widths[name]]
    if callable(quantizer):
        return {(n, b): quantizer(weights[n], hessian, b, group_size, params) for n, b in jobs}
    if quantizer == "rtn":
        if not needs_hessian(quantizer, params):
            return {(n, b): quantize_rtn(weights[n], b, group_size, name=n, sym=sym) for n, b in jobs}
        if hessian is None:
            raise QuantizeError("rounding with a clip search needs the site's Hessian: give calibration text")
        return {(n, b): quantize_clipped(weights[n], hessian, b, group_size, name=n, sym=sym) for n, b in jobs}
    if quantizer != "gptq":
        raise QuantizeError(f"unknown quantizer '{quantizer}' (known: rtn, gptq, or a function)")
    if hessian is None:
        raise QuantizeError("GPTQ needs the site's Hessian: give calibration text")
    first = next(iter(weights))
    prepared = prepare(hessian, act_order=given.get("act_order", True), damping=given.get("damping", 0.01), name=first)
    rest = {key: given[key] for key in ("block_size", "clip", "sym") if key in given}
    found: dict[tuple[str, int], QuantizedLinear] = {}
    for menu in sorted({tuple(widths[name]) for name in weights}):
        together = {name: weight for name, weight in weights.items() if tuple(widths[name]) == menu}
        found |= quantize_gptq_site(together, prepared, menu, group_size, **rest)
    return found
