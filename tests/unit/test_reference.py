"""Each fast algorithm against its plain float64 specification on Linear(6, 8); what every grid must keep; clipping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.methods.kinds import RtnParams
from ramp.quantizers import packing
from ramp.quantizers.affine import (
    SCALE_MAX,
    SCALE_MIN,
    QuantizedLinear,
    QuantizeError,
    encode,
    grid_for_range,
    nearest_codes,
    quantize_rtn,
    round_trip,
)
from ramp.quantizers.awq import ScaleSearch
from ramp.quantizers.clip import quantize_clipped
from ramp.quantizers.site import needs_hessian, quantize_site
from tests.reference_quantizers import (
    plain_code,
    plain_grid,
    plain_value,
    quantize_clipped_reference,
    search_scale_reference,
)
from tests.refusals import refused

BITS = st.integers(2, 8)
GROUPS = st.sampled_from([1, 2, 3, 6, -1])
SEEDS = st.integers(0, 2**31)


def layer(seed: int, d_out: int = 8, d_in: int = 6, tokens: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight [d_out, d_in] with heavy tails, inputs [tokens, d_in], correlated and of unequal size), float64."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(d_out, d_in, generator=g, dtype=torch.float64) ** 3
    mix = torch.randn(d_in, d_in, generator=g, dtype=torch.float64)
    return weight, torch.randn(tokens, d_in, generator=g, dtype=torch.float64) @ mix + 0.5


def same(a: QuantizedLinear, b: QuantizedLinear) -> bool:
    return all(torch.equal(getattr(a, x), getattr(b, x)) for x in ("codes", "scales", "zeros"))


@settings(max_examples=40)
@given(seed=SEEDS, bits=BITS, group_size=GROUPS, sym=st.booleans())
def test_rounding(seed: int, bits: int, group_size: int, sym: bool) -> None:
    weight, _ = layer(seed)
    q = quantize_rtn(weight, bits, group_size, sym=sym)
    size = 6 if group_size == -1 else group_size
    assert q.group_size == size
    for r in range(8):
        for start in range(0, 6, size):
            values = weight[r, start : start + size].tolist()
            grid = plain_grid(min(values), max(values), bits, sym)
            assert (float(q.scales[r, start // size]), int(q.zeros[r, start // size])) == grid
            assert q.codes[r, start : start + size].tolist() == [plain_code(v, grid, bits) for v in values]
            assert q.dequantize(torch.float64)[r, start].item() == plain_value(int(q.codes[r, start]), grid)
    assert torch.equal(round_trip(weight, bits, size, sym=sym), q.dequantize(torch.float64))
    assert torch.equal(
        round_trip(weight.float(), bits, size, sym=sym), quantize_rtn(weight.float(), bits, size, sym=sym).dequantize()
    )


@settings(max_examples=25)
@given(seed=SEEDS, bits=BITS, group_size=GROUPS, sym=st.booleans())
def test_clip_search(seed: int, bits: int, group_size: int, sym: bool) -> None:
    weight, x = layer(seed)
    fast = quantize_clipped(weight, x.T @ x / len(x), bits, group_size, sym=sym)
    assert same(fast, quantize_clipped_reference(weight, x, bits, group_size, sym=sym))


def tie_of_pairs(scale: torch.Tensor) -> torch.Tensor:
    """As with grouped heads: channels j and j + 3 share one scale."""
    return scale.view(2, 3).mean(0).repeat(2)


@settings(max_examples=12)
@given(
    seed=SEEDS,
    bits=st.lists(BITS, min_size=1, max_size=2, unique=True),
    group_size=GROUPS,
    sym=st.booleans(),
    tied=st.booleans(),
    duo=st.booleans(),
)
def test_scale_search(seed: int, bits: list[int], group_size: int, sym: bool, tied: bool, duo: bool) -> None:
    weight, x = layer(seed)
    weights, tie = [weight, weight[:3].flip(0)], tie_of_pairs if tied else None
    search = ScaleSearch(weights, x.T @ x / len(x), x.abs().mean(0), group_size, tie=tie, sym=sym, duo=duo)
    fast, before, after = search.best(bits)
    slow, slow_before, slow_after = search_scale_reference(weights, x, bits, group_size, tie=tie, sym=sym, duo=duo)
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-12)
    assert (before, after) == pytest.approx((slow_before, slow_after), rel=1e-9)


@given(seed=SEEDS, bits=BITS, sym=st.booleans(), log_size=st.floats(-6, 4), shift=st.floats(-2, 2))
def test_every_grid(seed: int, bits: int, sym: bool, log_size: float, shift: float) -> None:
    """Scales are positive float16, 0 is on the grid, codes fit, and a code stands for what rounds to it."""
    weight = ((torch.randn(5, 12, generator=torch.Generator().manual_seed(seed)) + shift) * 10**log_size).double()
    q = quantize_rtn(weight, bits, 4, sym=sym)
    assert bool(((q.scales >= SCALE_MIN) & (q.scales <= SCALE_MAX)).all())
    assert int(q.zeros.max()) < 2**bits
    assert int(q.codes.max()) < 2**bits
    scales, zeros = q.scales.double().repeat_interleave(4, 1), q.zeros.double().repeat_interleave(4, 1)
    assert torch.equal(nearest_codes(torch.zeros_like(weight), scales, zeros, bits), zeros)
    assert torch.equal(nearest_codes(q.dequantize(torch.float64), scales, zeros, bits), q.codes.double())
    again = encode(q.dequantize(torch.float64), q.scales.double(), q.zeros.double(), bits, 4)
    assert same(again, q)


@given(rows=st.integers(1, 9), groups=st.integers(1, 5), group_size=st.integers(1, 17), bits=BITS, seed=SEEDS)
def test_anything_on_the_grid_survives_packing(rows: int, groups: int, group_size: int, bits: int, seed: int) -> None:
    """Any codes, zero-points and scales, whatever made them, in any shape."""
    g = torch.Generator().manual_seed(seed)
    d_in = groups * group_size
    q = QuantizedLinear(
        codes=torch.randint(0, 2**bits, (rows, d_in), generator=g, dtype=torch.uint8),
        scales=torch.rand(rows, groups, generator=g).half(),
        zeros=torch.randint(0, 2**bits, (rows, groups), generator=g, dtype=torch.uint8),
        bits=bits,
        group_size=group_size,
    )
    packed = packing.to_tensors(q)
    assert same(packing.from_tensors(**packed, bits=bits, group_size=group_size, d_in=d_in), q)
    assert packed["codes"].nbytes == rows * -(-d_in * bits // 8)
    assert packed["zeros"].nbytes == -(-rows * groups * bits // 8)


def test_range_of_zeros_is_a_grid_of_zeros() -> None:
    for sym in (False, True):
        scales, zeros = grid_for_range(torch.zeros(2), torch.zeros(2), 3, sym=sym)
        assert scales.tolist() == [1, 1]
        assert zeros.tolist() == ([4, 4] if sym else [0, 0])


def correlated(d_in: int, tokens: int = 200, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d_in, d_in, generator=generator, dtype=torch.float64)
    return torch.randn(tokens, d_in, generator=generator, dtype=torch.float64) @ mix + 0.5


def test_site_uses_it_for_rounding_with_a_clip_search() -> None:
    x = correlated(16).float()
    weight, hessian = torch.randn(6, 16, generator=torch.Generator().manual_seed(2)) ** 3, x.T @ x / len(x)
    clip, plain = RtnParams(clip="mse"), RtnParams()
    assert needs_hessian("rtn", clip)
    assert not needs_hessian("rtn", plain)
    assert not needs_hessian("rtn")
    assert needs_hessian("gptq")
    found = quantize_site({"a": weight}, hessian, {"a": [3]}, 8, "rtn", clip)["a", 3]
    assert torch.equal(found.dequantize(), quantize_clipped(weight, hessian, 3, 8).dequantize())
    found = quantize_site({"a": weight}, None, {"a": [3]}, 8, "rtn", plain)["a", 3]
    assert torch.equal(found.dequantize(), quantize_rtn(weight, 3, 8).dequantize())
    with pytest.raises(QuantizeError, match="Hessian"):
        quantize_site({"a": weight}, None, {"a": [3]}, 8, "rtn", clip)


def test_faults_name_the_layer() -> None:
    calls = {
        "model.x has": lambda: quantize_clipped(torch.full((2, 8), torch.nan), torch.eye(8), 3, 8, name="model.x"),
        "model.x: the Hessian": lambda: quantize_clipped(torch.ones(2, 8), torch.eye(4), 3, 8, name="model.x"),
    }
    refused(QuantizeError, calls)
