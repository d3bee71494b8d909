"""One call for all quantizers: the linears that read one input, at several widths and group sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from ramp.quantizers.affine import QuantizedLinear, QuantizeError, quantize_rtn
from ramp.quantizers.clip import quantize_clipped
from ramp.quantizers.gptq import prepare, quantize_gptq_site
from ramp.quantizers.sizes import own_group
from ramp.quantizers.widths import Width, bits_of


def needs_hessian(quantizer: str | Callable[..., QuantizedLinear], params: BaseModel | None = None) -> bool:
    """Return whether a quantizer needs activations: all but plain rounding without clip search do."""
    return quantizer != "rtn" or _given(params).get("clip", "none") != "none"


def _given(params: BaseModel | None) -> dict[str, Any]:
    """Return a method's parameters by name; none where it has its defaults."""
    return params.model_dump() if params is not None else {}


def quantize_site(
    weights: Mapping[str, Tensor],
    hessian: Tensor | None,
    widths: Mapping[str, Sequence[Width]],
    group_size: int,
    quantizer: str | Callable[..., QuantizedLinear],
    params: BaseModel | None = None,
) -> dict[tuple[str, Width], QuantizedLinear]:
    """Quantize every linear of one site at its widths: return (name, width) -> QuantizedLinear.

    weights: name -> float [d_out_i, d_in]; hessian: float [d_in, d_in], X^T X / n, None where ``needs_hessian`` is
    false; widths: name -> widths wanted, in groups of ``group_size`` (``group_size_for``) where they name none;
    params: the method's parameters (``ramp.methods.kinds.RtnParams``, ``GptqParams``, or a custom quantizer's own),
    None for defaults. GPTQ factors the Hessian once for the whole site.
    """
    first, weight = next(iter(weights.items()))
    given = _given(params)
    sym = given.get("sym", False)
    jobs: dict[tuple[str, Width], tuple[str, int, int]] = {}  # linear and width -> linear, bits, group size
    for name in weights:
        for width in widths[name]:
            jobs[name, width] = name, bits_of(width), own_group(weight.shape[1], width, group_size, first)
    each = list(dict.fromkeys(jobs.values()))  # two widths of a menu may be one job
    if callable(quantizer):
        found = {(n, b, s): quantizer(weights[n], hessian, b, s, params) for n, b, s in each}
    elif quantizer not in ("rtn", "gptq"):
        raise QuantizeError(f"unknown quantizer '{quantizer}' (known: rtn, gptq, or a function)")
    elif not needs_hessian(quantizer, params):
        found = {(n, b, s): quantize_rtn(weights[n], b, s, name=n, sym=sym) for n, b, s in each}
    elif hessian is None:
        raise QuantizeError(f"{quantizer} with these parameters needs the site's Hessian: give calibration text")
    elif quantizer == "rtn":
        found = {(n, b, s): quantize_clipped(weights[n], hessian, b, s, name=n, sym=sym) for n, b, s in each}
    else:
        prepared = prepare(hessian, **{key: given[key] for key in ("act_order", "damping") if key in given}, name=first)
        rest = {key: given[key] for key in ("block_size", "clip", "sym") if key in given}
        found = {}
        for (size, menu), names in alike(each):
            made = quantize_gptq_site({name: weights[name] for name in names}, prepared, menu, size, **rest)
            found |= {(name, bits, size): q for (name, bits), q in made.items()}
    return {key: found[job] for key, job in jobs.items()}


def alike(jobs: Iterable[tuple[str, int, int]]) -> list[tuple[tuple[int, tuple[int, ...]], list[str]]]:
    """Return the linears of jobs (linear, bits, group size) by group size and by all bits asked for at it, sorted."""
    bits: dict[tuple[str, int], list[int]] = {}
    for name, width, size in jobs:
        bits.setdefault((name, size), []).append(width)
    names: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for (name, size), menu in bits.items():
        names.setdefault((size, tuple(menu)), []).append(name)
    return sorted(names.items())
