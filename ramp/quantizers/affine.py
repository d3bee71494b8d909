"""The affine grid: group-wise, integer zero-point, float16 scale; and round to nearest (RTN) on it.

A weight w of a group becomes the code q = clamp(round(w / s) + z, 0, 2^bits - 1) and comes back as (q - z) * s.
The zero-point z is itself a code, so 0 is always on the grid and a group's range always includes it.
The scale is rounded to float16 *before* codes are computed: codes are nearest on the grid that is stored.

| grid | scale s of a group | zero-point z |
| --- | --- | --- |
| asymmetric (default) | (max - min) / (2^bits - 1) | round(-min / s) |
| symmetric (``sym``) | 2 max abs(w) / (2^bits - 1) | 2^(bits - 1), the same everywhere |

Both are stored alike, zero-points included, so that a row's bytes do not depend on ``sym``. The symmetric scale is that
of GPTQ's authors (IST-DASLab/gptq, ``Quantizer.find_params``): the grid is wider than the range by half a step at the
lower end and narrower by half a step at the upper one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ramp.core.errors import RampError
from ramp.quantizers.widths import MAX_BITS, MIN_BITS, WHOLE_ROW

SCALE_MIN = 2.0**-24
"""Smallest positive float16. Below 2^-14 they are subnormal, multiples of this one, with fewer bits: codes are computed
for the scale that is stored, so a small weight loses little by it, and everything by a scale that is far too large."""

SCALE_MAX = 65504.0
"""Largest finite float16."""

SHRINKS = tuple(1.0 - 0.05 * step for step in range(11))
"""Factors by which the MSE clip search shrinks a group's range, 1.00 to 0.50: the range of AWQ's
clip search (``max_shrink=0.5``, arXiv:2306.00978, llm-awq), in steps of 0.05. 1.0 stands first, so
ties keep the full range."""


class QuantizeError(RampError):
    """Weights or statistics that cannot be quantized, or widths and group sizes outside the grid."""


@dataclass
class QuantizedLinear:
    """A weight matrix on the affine grid; the group of column j is j // group_size."""

    codes: Tensor  # uint8 [d_out, d_in], 0 .. 2^bits - 1
    scales: Tensor  # float16 [d_out, n_groups], positive
    zeros: Tensor  # uint8 [d_out, n_groups], 0 .. 2^bits - 1
    bits: int
    group_size: int

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return int(self.codes.shape[0]), int(self.codes.shape[1])

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return (codes - zeros) * scales as ``dtype`` [d_out, d_in].

        Exact in float32 and float64 (an integer of at most 9 bits times 11 bits); one rounding below that.
        """
        d_out, d_in = self.shape
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        grouped = self.codes.view(d_out, d_in // self.group_size, self.group_size).to(wide)
        grouped.sub_(self.zeros.to(wide).unsqueeze(-1)).mul_(self.scales.to(wide).unsqueeze(-1))
        return grouped.view(d_out, d_in).to(dtype)


def label(name: str) -> str:
    """Return the name of the layer for an error message."""
    return name or "the weight"


def check_weight(weight: Tensor, bits: int, group_size: int, name: str) -> int:
    """Return the group size, in weights, of a float weight [d_out, d_in] (-1 becomes its whole row).

    Raises ``QuantizeError`` unless it is a finite matrix, bits are whole and 2 to 8, and groups divide its rows.
    """
    if weight.dim() != 2:
        raise QuantizeError(f"{label(name)} has shape {list(weight.shape)}: only matrices [d_out, d_in] are quantized")
    if bits != int(bits) or not MIN_BITS <= bits <= MAX_BITS:
        raise QuantizeError(f"{label(name)}: {bits} bits asked for, the affine grid has {MIN_BITS} to {MAX_BITS}")
    if group_size == WHOLE_ROW:
        group_size = weight.shape[1]
    if group_size < 1 or weight.shape[1] % group_size:
        raise QuantizeError(
            f"{label(name)}: groups of {group_size} do not divide rows of {weight.shape[1]}: "
            "use ramp.quantizers.sizes.group_size_for"
        )
    if not bool(torch.isfinite(weight).all()):
        bad = int((~torch.isfinite(weight)).sum())
        raise QuantizeError(f"{label(name)} has {bad} weights that are NaN or infinite: the checkpoint is damaged")
    return group_size


def grid_for_range(low: Tensor, high: Tensor, bits: int, name: str = "", *, sym: bool = False) -> tuple[Tensor, Tensor]:
    """Return scales and zero-points of groups that span [low, high].

    low, high: float, equal shapes; both are moved to include 0, and with ``sym`` to lie equally far from it.
    Returns (scales, zeros), both in low's dtype: scales exactly representable in float16, zeros whole.
    """
    top = 2**bits - 1
    low, high = low.clamp(max=0), high.clamp(min=0)
    if sym:
        high = torch.maximum(-low, high)
        low = -high
    exact = (high - low) / top
    if bool((exact > SCALE_MAX).any()):
        raise QuantizeError(f"{label(name)} spans {float((high - low).max()):.3g}: too wide for a float16 scale")
    # A group of zeros has no range: scale 1, so that every code is the zero-point.
    exact = torch.where(high == low, torch.ones_like(exact), exact)
    scales = exact.clamp(SCALE_MIN, SCALE_MAX).to(torch.float16).to(low.dtype)
    if sym:
        return scales, torch.full_like(scales, 2 ** (bits - 1))
    return scales, torch.round(-low / scales).clamp(0, top)


def nearest_codes(weight: Tensor, scales: Tensor, zeros: Tensor, bits: int) -> Tensor:
    """Return clamp(round(w / s) + z, 0, 2^bits - 1), in weight's dtype; arguments broadcast."""
    return torch.div(weight, scales).round_().add_(zeros).clamp_(0, 2**bits - 1)


def group_grid(
    weight: Tensor,
    bits: int,
    group_size: int,
    *,
    clip: str = "none",
    importance: Tensor | None = None,
    name: str = "",
    sym: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return scales and zero-points of every group of a weight matrix.

    weight: float [d_out, d_in]; importance: float [d_in], weights of the columns' squared errors in the clip
    search (the Hessian's diagonal, say). Returns (scales, zeros) as weight's dtype [d_out, n_groups].

    ``clip="mse"`` shrinks both ends of each group's range by the factor of ``SHRINKS`` with the least
    (weighted) squared error of the de-quantized group; ``"none"`` keeps the full range.
    """
    d_out, d_in = weight.shape
    groups = weight.reshape(d_out, d_in // group_size, group_size)
    if clip == "none":
        return grid_for_range(groups.amin(-1), groups.amax(-1), bits, name, sym=sym)
    if clip != "mse":
        raise QuantizeError(f"{label(name)}: unknown clip '{clip}' (known: none, mse)")
    share = None if importance is None else importance.to(weight.dtype).view(1, -1, group_size)

    def squared(difference: Tensor) -> Tensor:
        squares = difference.square_()
        return (squares if share is None else squares.mul_(share)).sum(-1)

    return best_range(groups, bits, squared, name, sym=sym)


def best_range(
    groups: Tensor, bits: int, error: Callable[[Tensor], Tensor], name: str = "", *, sym: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the grids whose range, shrunk at both ends by one of ``SHRINKS``, has the least error (first of equals).

    groups: float [d_out, n_groups, group_size]; ``error`` maps rounding differences of that shape, which it may
    overwrite, to [d_out, n_groups]. Returns (scales, zeros) [d_out, n_groups].
    """
    low, high = groups.amin(-1), groups.amax(-1)
    scales, zeros = grid_for_range(low, high, bits, name, sym=sym)
    best = torch.full_like(low, torch.inf)
    for shrink in SHRINKS:
        s, z = grid_for_range(low * shrink, high * shrink, bits, name, sym=sym)
        wide_s, wide_z = s.unsqueeze(-1), z.unsqueeze(-1)
        found = error(nearest_codes(groups, wide_s, wide_z, bits).sub_(wide_z).mul_(wide_s).sub_(groups))
        better = found < best
        best = torch.where(better, found, best)
        scales, zeros = torch.where(better, s, scales), torch.where(better, z, zeros)
    return scales, zeros


def encode(weight: Tensor, scales: Tensor, zeros: Tensor, bits: int, group_size: int) -> QuantizedLinear:
    """Return a weight [d_out, d_in] rounded to the nearest codes of given grids, [d_out, n_groups] each."""
    d_out, d_in = weight.shape
    groups = weight.reshape(d_out, d_in // group_size, group_size)
    codes = nearest_codes(groups, scales.unsqueeze(-1), zeros.unsqueeze(-1), bits)
    return QuantizedLinear(
        codes=codes.to(torch.uint8).view(d_out, d_in),
        scales=scales.to(torch.float16),
        zeros=zeros.to(torch.uint8),
        bits=int(bits),
        group_size=group_size,
    )


def as_float(weight: Tensor) -> Tensor:
    """Return a weight of any float dtype and shape as float32, or float64 as it is, the dtypes of grids; detached."""
    weight = weight.detach()
    return weight if weight.dtype in (torch.float32, torch.float64) else weight.to(torch.float32)


def quantize_rtn(weight: Tensor, bits: int, group_size: int, *, name: str = "", sym: bool = False) -> QuantizedLinear:
    """Round every weight to the nearest code of its group's grid (RTN).

    weight: float [d_out, d_in], d_in a multiple of ``group_size`` (-1: one group per row). Raises ``QuantizeError``,
    naming ``name``, for weights that are NaN or infinite.
    """
    group_size = check_weight(weight, bits, group_size, name)
    weight = as_float(weight)
    scales, zeros = group_grid(weight, bits, group_size, name=name, sym=sym)
    return encode(weight, scales, zeros, bits, group_size)


def round_trip(weight: Tensor, bits: int, group_size: int, *, name: str = "", sym: bool = False) -> Tensor:
    """Return ``quantize_rtn(...).dequantize()`` of a float weight [d_out, d_in] without making codes: for searches.

    The same numbers to the bit (codes, zero-points and scales are exact in float32); ``group_size`` divides d_in.
    """
    scales, zeros = group_grid(weight, bits, group_size, name=name, sym=sym)
    wide_scales, wide_zeros = scales.unsqueeze(-1), zeros.unsqueeze(-1)
    groups = weight.reshape(weight.shape[0], -1, group_size)
    return nearest_codes(groups, wide_scales, wide_zeros, bits).sub_(wide_zeros).mul_(wide_scales).view(weight.shape)
