"""Activation-aware clipping against brute force over the activations themselves."""

from __future__ import annotations

import pytest
import torch

from ramp.methods.kinds import RtnParams
from ramp.quantizers.affine import SHRINKS, QuantizeError, grid_for_range, nearest_codes, quantize_rtn
from ramp.quantizers.clip import quantize_clipped
from ramp.quantizers.site import needs_hessian, quantize_site


def correlated(d_in: int, tokens: int = 200, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d_in, d_in, generator=generator, dtype=torch.float64)
    return torch.randn(tokens, d_in, generator=generator, dtype=torch.float64) @ mix + 0.5


@pytest.mark.parametrize("bits", [2, 3, 5])
def test_each_group_gets_the_range_that_brute_force_gives(bits: int) -> None:
    x = correlated(16)  # (tokens, d_in)
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 3
    found = quantize_clipped(weight, x.T @ x / len(x), bits, 8)
    rounded = found.dequantize(torch.float64)
    clipped = 0
    for row in range(6):
        for start in (0, 8):
            w, rows = weight[row, start : start + 8], x[:, start : start + 8]
            errors, values = [], []
            for shrink in SHRINKS:
                s, z = grid_for_range(w.min() * shrink, w.max() * shrink, bits)
                values.append((nearest_codes(w, s, z, bits) - z) * s)
                errors.append(float(((rows @ (values[-1] - w)) ** 2).mean()))
            best = min(range(len(SHRINKS)), key=errors.__getitem__)
            torch.testing.assert_close(rounded[row, start : start + 8], values[best])
            clipped += best > 0
    assert clipped or bits == 5  # the search had something to find; at 5 bits the full range may win everywhere


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
    with pytest.raises(QuantizeError, match="needs the site's Hessian"):
        quantize_site({"a": weight}, None, {"a": [3]}, 8, "rtn", clip)


def test_faults_name_the_layer() -> None:
    with pytest.raises(QuantizeError, match=r"model\.x"):
        quantize_clipped(torch.full((2, 8), torch.nan), torch.eye(8), 3, 8, name="model.x")
    with pytest.raises(QuantizeError, match=r"model\.x: the Hessian"):
        quantize_clipped(torch.ones(2, 8), torch.eye(4), 3, 8, name="model.x")
