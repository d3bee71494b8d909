"""Our GPTQ and AWQ beside gptqmodel's and autoawq's on small linears of a real model: errors at most 2 % above theirs.

What the packages made stands in tests/golden/package_linears.npz, so that none is needed here; what made that file,
tests/golden/make_package_linears.py, says with which versions and settings. Both sides have the same weights,
activations, width, groups and grid. Ours and the error, tr(dW H dW^T) on those activations, are taken in float64, so
that a ratio is the same on every processor.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ramp.quantizers.affine import quantize_rtn
from ramp.quantizers.awq import ScaleSearch
from ramp.quantizers.clip import quantize_clipped
from ramp.quantizers.gptq import output_error, prepare
from tests.reference_quantizers import quantize_gptq

GOLDENS = Path(__file__).parents[1] / "golden" / "package_linears.npz"
LIMIT = 1.02
DAMPING = 0.01
LINEARS = ("model.layers.10.self_attn.v_proj", "model.layers.20.mlp.up_proj", "model.layers.28.mlp.down_proj")
GPTQ = [
    (linear, *case) for linear in LINEARS for case in [(3, 32, False), (3, 32, True), (4, 64, False), (4, 64, True)]
]
AWQ = [(linear, bits, group) for linear in LINEARS for bits, group in [(3, 32), (4, 64)]]
"""(linear, bits, group size, symmetric); AWQ's are asymmetric."""


@pytest.fixture(scope="module")
def goldens() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDENS))


class Site:
    """The inputs of one linear: weight [d_out, d_in], activations [tokens, d_in] and Hessian [d_in, d_in], float64."""

    def __init__(self, goldens: dict[str, np.ndarray], linear: str) -> None:
        self.goldens, self.linear = goldens, linear
        self.weight, self.x = (torch.from_numpy(goldens[f"{linear}/{part}"]).double() for part in ("weight", "x"))
        self.hessian = self.x.T @ self.x / len(self.x)

    def error(self, weight: Tensor) -> float:
        return output_error(weight - self.weight, self.hessian)

    def theirs(self, method: str, bits: int, group: int, sym: bool = False) -> tuple[Tensor, Tensor]:
        """(the package's weight float64 [d_out, d_in], its fold [d_in]: ones for GPTQ), both as it left them."""
        key = f"{self.linear}/{method}/{bits}-{group}-{'sym' if sym else 'asym'}"
        parts = (self.goldens[f"{key}/{part}"] for part in ("codes", "scales", "zeros"))
        codes, scales, zeros = (torch.from_numpy(part).double() for part in parts)
        assert codes.max() < 2**bits
        grouped = (codes.reshape(len(codes), -1, group) - zeros.unsqueeze(-1)) * scales.unsqueeze(-1)
        fold = self.goldens.get(f"{key}/fold")
        ones = torch.ones(codes.shape[1], dtype=torch.float64)
        return grouped.reshape(codes.shape), ones if fold is None else torch.from_numpy(fold).double()

    def their_error(self, method: str, bits: int, group: int, sym: bool = False) -> float:
        """The package's error, which is checked to be a method's: less than plain rounding's."""
        weight, fold = self.theirs(method, bits, group, sym)
        found = self.error(weight / fold)
        assert 0 < found < self.error(quantize_rtn(self.weight, bits, group, sym=sym).dequantize(torch.float64))
        return found

    def clipped(self, fold: Tensor, bits: int, group: int) -> float:
        """Error of our rounding with its clip search behind a given fold [d_in]."""
        made = quantize_clipped(self.weight * fold, self.hessian / fold[:, None] / fold, bits, group)
        return self.error(made.dequantize(torch.float64) / fold)

    def searched(self, bits: int, group: int) -> Tensor:
        """The fold [d_in] that our AWQ finds."""
        return ScaleSearch([self.weight], self.hessian, self.x.abs().mean(0), group).best([bits])[0]


V, UP, DOWN = LINEARS
GRIDS_OF_A_BLOCK = {(V, 3, 32, False): 1.03, (V, 3, 32, True): 1.045, (UP, 4, 64, False): 1.06}
"""Where our GPTQ is more than 2 % above gptqmodel, and how far at most. The cause: gptqmodel (as IST-DASLab/gptq) takes
grids from weights that miss the updates of their own block of 128 columns, ours has them up to date. Neither is the
better one (the other ratios run from 0.957 to 1.015), and with its grids ours has its error, as the next test shows."""

CLAMPED_RANGES = {(DOWN, 4, 64): 1.07}
"""Where our clip search is more than 2 % above autoawq's behind autoawq's own duo scales. The cause: it clamps weights
at a share of the group's largest, which leaves the shorter end of a range alone; ours shrinks both ends."""


@pytest.mark.parametrize(("linear", "bits", "group", "sym"), GPTQ)
def test_gptq_with_the_packages_grids_has_the_packages_error(
    goldens: dict[str, np.ndarray], linear: str, bits: int, group: int, sym: bool
) -> None:
    """All 128 columns are one block of gptqmodel's, so its grids are those of the original weights: static groups."""
    site = Site(goldens, linear)
    prepared = replace(prepare(site.hessian, act_order=False, damping=DAMPING), act_order=True)
    made = quantize_gptq(site.weight, prepared, bits, group, sym=sym).dequantize(torch.float64)
    assert site.error(made) == pytest.approx(site.their_error("gptq", bits, group, sym), rel=LIMIT - 1)


@pytest.mark.parametrize(("linear", "bits", "group", "sym"), GPTQ)
def test_gptq_is_at_most_two_per_cent_above_gptqmodel(
    goldens: dict[str, np.ndarray], linear: str, bits: int, group: int, sym: bool
) -> None:
    site = Site(goldens, linear)
    made = quantize_gptq(site.weight, site.hessian, bits, group, act_order=False, damping=DAMPING, sym=sym)
    ratio = site.error(made.dequantize(torch.float64)) / site.their_error("gptq", bits, group, sym)
    check(ratio, GRIDS_OF_A_BLOCK.get((linear, bits, group, sym)))


@pytest.mark.parametrize(("linear", "bits", "group"), AWQ)
def test_awq_finds_autoawqs_scales_and_is_at_most_two_per_cent_above_it(
    goldens: dict[str, np.ndarray], linear: str, bits: int, group: int
) -> None:
    site = Site(goldens, linear)
    fold = site.searched(bits, group)
    torch.testing.assert_close(fold, site.theirs("awq", bits, group)[1], rtol=1e-3, atol=0)
    check(site.clipped(fold, bits, group) / site.their_error("awq", bits, group))


@pytest.mark.parametrize(("linear", "bits", "group"), AWQ)
def test_our_clip_search_is_at_most_two_per_cent_above_autoawqs_behind_its_duo_scales(
    goldens: dict[str, np.ndarray], linear: str, bits: int, group: int
) -> None:
    """Duo scaling, autoawq's default, has other candidates than ours: its scales are given, our half is compared."""
    site = Site(goldens, linear)
    _, fold = site.theirs("awq_duo", bits, group)
    ratio = site.clipped(fold, bits, group) / site.their_error("awq_duo", bits, group)
    check(ratio, CLAMPED_RANGES.get((linear, bits, group)))


def check(ratio: float, allowed: float | None = None) -> None:
    """At most 2 % above the package, or more within what a named cause allows: an exception that is gone is told."""
    if allowed is None:
        assert ratio <= LIMIT
    else:
        assert LIMIT < ratio <= allowed
