"""The affine grid against brute force over every code, and the edges: zeros, one sign, tiny, huge, NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ramp.quantizers.affine import SCALE_MIN, SHRINKS, QuantizeError, encode, grid_for_range, group_grid, quantize_rtn


def weights(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(st.integers(2, 8), st.sampled_from([2, 3, 6]), st.integers(0, 2**31), st.floats(-3, 3))
def test_codes_are_the_nearest_of_the_stored_grid(bits: int, group_size: int, seed: int, log_size: float) -> None:
    """Every weight's error is the least over all 2^bits values that its group's stored scale and zero can express."""
    weight = weights(4, 6, seed) * 10**log_size
    q = quantize_rtn(weight, bits, group_size)
    values = np.arange(2**bits)  # every code there is
    scales = np.repeat(q.scales.numpy().astype(np.float64), group_size, axis=1)[..., None]
    zeros = np.repeat(q.zeros.numpy().astype(np.float64), group_size, axis=1)[..., None]
    best = np.abs((values - zeros) * scales - weight.numpy()[..., None]).min(-1)
    error = np.abs(q.dequantize(torch.float64).numpy() - weight.numpy())
    np.testing.assert_allclose(error, best, rtol=1e-5, atol=1e-6 * float(weight.abs().max()))


@given(st.integers(2, 8), st.integers(0, 2**31), st.floats(-2, 2))
def test_error_is_at_most_about_one_step(bits: int, seed: int, shift: float) -> None:
    """Half a step inside the range; where the zero-point's rounding moves the grid, up to half a step more."""
    weight = weights(3, 8, seed) + shift
    q = quantize_rtn(weight, bits, 4)
    step = q.scales.float().repeat_interleave(4, 1)
    # A float16 scale may be short by 2^-11 of itself, over 2^bits - 1 steps.
    assert bool(((q.dequantize() - weight).abs() <= step * (1 + 2**bits * 2.0**-11)).all())
    assert int(q.codes.max()) < 2**bits
    assert int(q.zeros.max()) < 2**bits


def test_types_and_shapes() -> None:
    q = quantize_rtn(weights(8, 6).to(torch.bfloat16), 3, 2)
    assert (q.codes.dtype, q.scales.dtype, q.zeros.dtype) == (torch.uint8, torch.float16, torch.uint8)
    assert (q.codes.shape, q.scales.shape, q.zeros.shape) == ((8, 6), (8, 3), (8, 3))
    assert q.shape == (8, 6)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        assert q.dequantize(dtype).dtype == dtype
    assert torch.equal(q.dequantize(torch.float32).double(), q.dequantize(torch.float64))  # float32 is exact
    assert torch.equal(q.dequantize(torch.bfloat16), q.dequantize(torch.float64).to(torch.bfloat16))


def test_zero_is_on_every_grid() -> None:
    weight = torch.stack([weights(1, 8)[0].abs() + 1, -weights(1, 8)[0].abs() - 1, torch.zeros(8)])
    weight[:, 3] = 0
    for bits in range(2, 9):
        q = quantize_rtn(weight, bits, 8)
        assert torch.equal(q.dequantize()[:, 3], torch.zeros(3))
        assert q.zeros[:, 0].tolist()[:2] == [0, 2**bits - 1]
        assert torch.equal(q.dequantize()[2], torch.zeros(8))


def test_constant_groups_come_back() -> None:
    weight = torch.tensor([[0.5, 0.5, -0.25, -0.25]])
    torch.testing.assert_close(quantize_rtn(weight, 2, 2).dequantize(), weight, rtol=1e-3, atol=0)


def test_tiny_groups_keep_a_normal_scale() -> None:
    q = quantize_rtn(weights(2, 8) * 1e-7, 4, 8)
    assert bool((q.scales >= SCALE_MIN).all())
    assert bool(torch.isfinite(q.dequantize()).all())
    assert float(q.dequantize().abs().max()) <= SCALE_MIN


def test_scale_is_rounded_before_the_codes() -> None:
    """With 8 bits, a scale that float16 rounds by 2^-12 of itself moves the far codes by a sixteenth of a step."""
    exact = 1 + 2.0**-11  # halfway between two float16 numbers: rounds to 1
    weight = torch.tensor([[0.0, 255 * exact, 100.49, 200.51]])
    q = quantize_rtn(weight, 8, 4)
    assert float(q.scales[0, 0]) == 1.0
    assert q.codes[0].tolist() == [0, 255, 100, 201]


def test_mse_clip_is_the_best_of_its_grid() -> None:
    weight = weights(6, 16) ** 3  # heavy tails, so that clipping pays
    importance = torch.rand(16, generator=torch.Generator().manual_seed(1)) + 0.1
    for share in (None, importance):
        q = encode(weight, *group_grid(weight, 3, 8, clip="mse", importance=share), 3, 8)
        got = (q.dequantize() - weight).square() * (1 if share is None else share)
        candidates = []
        for shrink in SHRINKS:
            groups = weight.view(6, 2, 8)
            s, z = grid_for_range(groups.amin(-1) * shrink, groups.amax(-1) * shrink, 3)
            s, z = s.repeat_interleave(8, 1), z.repeat_interleave(8, 1)
            values = (torch.clamp(torch.round(weight / s) + z, 0, 7) - z) * s
            candidates.append(((values - weight).square() * (1 if share is None else share)).view(6, 2, 8).sum(-1))
        expected = torch.stack(candidates).amin(0)
        torch.testing.assert_close(got.view(6, 2, 8).sum(-1), expected)
        assert bool((expected < candidates[0]).any())  # the full range is not always best here


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_the_layer(value: float) -> None:
    weight = weights(8, 6)
    weight[3, 2] = value
    with pytest.raises(QuantizeError, match=r"model\.layers\.3\.mlp\.up_proj has 1 weights that are NaN or infinite"):
        quantize_rtn(weight, 4, 2, name="model.layers.3.mlp.up_proj")


def test_errors() -> None:
    weight = weights(8, 6)
    with pytest.raises(QuantizeError, match="9 bits asked for"):
        quantize_rtn(weight, 9, 2)
    with pytest.raises(QuantizeError, match="groups of 4 do not divide rows of 6"):
        quantize_rtn(weight, 4, 4)
    with pytest.raises(QuantizeError, match="only matrices"):
        quantize_rtn(weight[0], 4, 2)
    with pytest.raises(QuantizeError, match="unknown clip 'best'"):
        group_grid(weight, 4, 2, clip="best")
    with pytest.raises(QuantizeError, match="too wide for a float16 scale"):
        quantize_rtn(weight * 1e8, 2, 2)
