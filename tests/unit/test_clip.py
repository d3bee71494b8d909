"""Where clipping is used, and its refusals; its ranges are tested against a specification in test_reference.py."""

from __future__ import annotations

import pytest
import torch

from ramp.methods.kinds import RtnParams
from ramp.quantizers.affine import QuantizeError, quantize_rtn
from ramp.quantizers.clip import quantize_clipped
from ramp.quantizers.site import needs_hessian, quantize_site
from tests.refusals import refused


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
