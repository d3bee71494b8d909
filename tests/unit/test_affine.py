"""Types, shapes and refusals of the affine grid; its codes are tested against a specification in test_reference.py."""

from __future__ import annotations

import pytest
import torch

from ramp.quantizers.affine import QuantizeError, group_grid, quantize_rtn
from tests.refusals import refused


def weights(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_types_and_shapes() -> None:
    q = quantize_rtn(weights(8, 6).to(torch.bfloat16), 3, 2)
    assert (q.codes.dtype, q.scales.dtype, q.zeros.dtype) == (torch.uint8, torch.float16, torch.uint8)
    assert (q.codes.shape, q.scales.shape, q.zeros.shape) == ((8, 6), (8, 3), (8, 3))
    assert q.shape == (8, 6)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        assert q.dequantize(dtype).dtype == dtype
    assert torch.equal(q.dequantize(torch.float32).double(), q.dequantize(torch.float64))  # float32 is exact
    assert torch.equal(q.dequantize(torch.bfloat16), q.dequantize(torch.float64).to(torch.bfloat16))


def test_scale_is_rounded_before_the_codes() -> None:
    """With 8 bits, a scale that float16 rounds by 2^-12 of itself moves the far codes by a sixteenth of a step."""
    exact = 1 + 2.0**-11  # halfway between two float16 numbers: rounds to 1
    weight = torch.tensor([[0.0, 255 * exact, 100.49, 200.51]])
    q = quantize_rtn(weight, 8, 4)
    assert float(q.scales[0, 0]) == 1.0
    assert q.codes[0].tolist() == [0, 255, 100, 201]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_the_layer(value: float) -> None:
    weight = weights(8, 6)
    weight[3, 2] = value
    with pytest.raises(QuantizeError, match=r"up_proj has 1 weights"):
        quantize_rtn(weight, 4, 2, name="model.layers.3.mlp.up_proj")


def test_errors() -> None:
    weight = weights(8, 6)
    calls = {
        "9 bits": lambda: quantize_rtn(weight, 9, 2),
        "groups of 4": lambda: quantize_rtn(weight, 4, 4),
        "only matrices": lambda: quantize_rtn(weight[0], 4, 2),
        "clip 'best'": lambda: group_grid(weight, 4, 2, clip="best"),
        "too wide": lambda: quantize_rtn(weight * 1e8, 2, 2),
    }
    refused(QuantizeError, calls)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_small_weights_are_rounded_as_well_as_large_ones(bits: int) -> None:
    """Their scales are subnormal float16: down to a standard deviation of 1e-6 the relative error stays small."""
    weight = weights(64, 256)

    def error(factor: float) -> float:
        small = weight * factor
        return float((quantize_rtn(small, bits, 64).dequantize() - small).square().sum() / small.square().sum())

    q = quantize_rtn(weight * 3e-5, bits, 64)
    assert 0 < float(q.scales.min()) <= float(q.scales.max()) < 2.0**-14
    assert error(1e-3) == pytest.approx(error(1.0), rel=0.05)
    assert max(error(3e-5), error(1e-6)) < error(1.0) + 2e-3
    assert error(1e-9) == 1.0  # nothing that float16 could say
