"""One call for all quantizers: the linears that read one input, at several widths and group sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ramp.quantizers.affine import QuantizedLinear, QuantizeError, quantize_rtn
from ramp.quantizers.clip import quantize_clipped
from ramp.quantizers.gptq import Prepared, prepare, quantize_gptq_site
from ramp.quantizers.sizes import group_size_for
from ramp.quantizers.widths import Width, split


def needs_hessian(quantizer: str | Callable[..., QuantizedLinear], params: Any = None) -> bool:
    """Return whether a quantizer needs activations: all but plain rounding without clip search do."""
    return quantizer != "rtn" or getattr(params, "clip", "none") != "none"


def quantize_site(
    weights: Mapping[str, Tensor],
    hessian: Tensor | None,
    widths: Mapping[str, Sequence[Width]],
    group_size: int,
    quantizer: str | Callable[..., QuantizedLinear],
    params: Any = None,
) -> dict[tuple[str, Width], QuantizedLinear]:
    """Quantize every linear of one site at its widths: return (name, width) -> QuantizedLinear.

    weights: name -> float [d_out_i, d_in]; hessian: float [d_in, d_in], X^T X / n, None where ``needs_hessian`` is
    false; widths: name -> widths wanted, in groups of ``group_size`` (``group_size_for``) where they name none;
    params: the method's parameters (``ramp.methods.kinds.RtnParams``, ``GptqParams``, or a custom quantizer's own),
    None for defaults. GPTQ factors the Hessian once for the whole site.
    """
    first, weight = next(iter(weights.items()))
    prepared: Prepared | None = None
    if quantizer == "gptq":
        if hessian is None:
            raise QuantizeError("GPTQ needs the site's Hessian: give calibration text")
        given = params.model_dump() if params is not None else {}
        order, damping = given.get("act_order", True), given.get("damping", 0.01)
        prepared = prepare(hessian, act_order=order, damping=damping, name=first)

    def own(group: int | None) -> int:
        return group_size_for(weight.shape[1], group_size if group is None else group, first)

    wanted = {(name, width): split(width) for name in weights for width in widths[name]}
    jobs = {key: (bits, own(group)) for key, (bits, group) in wanted.items()}
    found: dict[tuple[str, int, int], QuantizedLinear] = {}
    for size in sorted({size for _, size in jobs.values()}):
        bits = {name: unique(b for (n, _), (b, s) in jobs.items() if (n, s) == (name, size)) for name in weights}
        made = in_groups(weights, hessian, prepared, bits, size, quantizer, params)
        found |= {(name, b, size): q for (name, b), q in made.items()}
    return {(name, width): found[name, *job] for (name, width), job in jobs.items()}


def unique(values: Iterable[int]) -> list[int]:
    """Return each value once, in order of first appearance."""
    return list(dict.fromkeys(values))


def in_groups(
    weights: Mapping[str, Tensor],
    hessian: Tensor | None,
    prepared: Prepared | None,
    widths: Mapping[str, Sequence[int]],
    group_size: int,
    quantizer: str | Callable[..., QuantizedLinear],
    params: Any,
) -> dict[tuple[str, int], QuantizedLinear]:
    """Quantize at one group size: return (name, bits) -> QuantizedLinear; prepared: GPTQ's factored Hessian."""
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
    if quantizer != "gptq" or prepared is None:
        raise QuantizeError(f"unknown quantizer '{quantizer}' (known: rtn, gptq, or a function)")
    rest = {key: given[key] for key in ("block_size", "clip", "sym") if key in given}
    found: dict[tuple[str, int], QuantizedLinear] = {}
    for menu in sorted({tuple(widths[name]) for name in weights if widths[name]}):
        together = {name: weight for name, weight in weights.items() if tuple(widths[name]) == menu}
        found |= quantize_gptq_site(together, prepared, menu, group_size, **rest)
    return found
