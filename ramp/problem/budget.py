"""The budget in bytes: what b bits per weight allow the packed linears to take, and whether any allocation fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ramp.core.errors import RampError
from ramp.models.architecture import LinearSpec
from ramp.quantizers.sizes import uniform_bytes
from ramp.quantizers.widths import MAX_BITS, MIN_BITS, SizeError, Width, bits_of


class AllocationError(RampError):
    """A budget that no allocation meets, or an allocation or its file that is not valid."""


def budget_bytes(linears: Sequence[LinearSpec], budget_bits: float, group_size: int) -> int:
    """Return how many bytes the packed linears may take under a budget of ``budget_bits`` per weight.

    At a whole width this is the uniform row's ``bytes_linear``; in between, the linear interpolation of the two
    neighbouring uniform rows, rounded down (in exact decimal arithmetic: 3.65 means 365/100).
    """
    exact = Fraction(str(float(budget_bits)))
    if not MIN_BITS <= exact <= MAX_BITS:
        raise SizeError(f"a budget of {budget_bits} bits is outside {MIN_BITS} to {MAX_BITS}: choose one inside")
    low = math.floor(exact)
    at_low = uniform_bytes(linears, low, group_size)
    if exact == low:
        return at_low
    return math.floor(at_low + (exact - low) * (uniform_bytes(linears, low + 1, group_size) - at_low))


def check_budget(
    sizes: np.ndarray, budget_bytes: int, widths: tuple[Width, ...] | None = None, params: list[int] | None = None
) -> None:
    """Raise ``AllocationError`` unless the cheapest allocation of ``sizes`` [n, w] fits ``budget_bytes``.

    With ``widths`` and ``params`` [n] the message gives the cheapest allocation in bits per weight too.
    """
    cheapest = sizes.min(axis=1)
    total = int(cheapest.sum())
    if total <= budget_bytes:
        return
    in_bits = ""
    if widths is not None and params:
        bits = np.array([bits_of(width) for width in widths])[sizes.argmin(axis=1)]
        in_bits = f" ({float(np.average(bits, weights=params)):.2f} bits)"
    raise AllocationError(
        f"budget below the cheapest allocation: {budget_bytes} bytes, cheapest {total}{in_bits}; raise the budget"
    )
