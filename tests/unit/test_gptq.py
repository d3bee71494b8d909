"""The fast GPTQ against its one-column-at-a-time reference; dead channels, damping, faults."""

from __future__ import annotations

import inspect
import logging
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import parity
from ramp.methods.kinds import GptqParams
from ramp.quantizers.affine import QuantizedLinear, QuantizeError
from ramp.quantizers.gptq import output_error, prepare, quantize_gptq_site, upper_factor
from tests.reference_quantizers import quantize_gptq, quantize_gptq_reference
from tests.refusals import refused


def layer(seed: int, d_out: int = 8, d_in: int = 6, tokens: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A Linear(d_in, d_out)'s weight and the Hessian of correlated inputs of unequal size, float64."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(d_out, d_in, generator=g, dtype=torch.float64)
    mix = torch.randn(d_in, d_in, generator=g, dtype=torch.float64)
    x = torch.randn(tokens, d_in, generator=g, dtype=torch.float64) @ mix
    return weight, x.T @ x / tokens


def same(a: QuantizedLinear, b: QuantizedLinear) -> bool:
    return all(torch.equal(getattr(a, x), getattr(b, x)) for x in ("codes", "scales", "zeros"))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    bits=st.integers(2, 8),
    group_size=st.sampled_from([1, 2, 3, 6, -1]),
    act_order=st.booleans(),
    block_size=st.sampled_from([1, 2, 4, 128]),
    clip=st.sampled_from(["none", "mse"]),
    sym=st.booleans(),
    damping=st.sampled_from([0.001, 0.01, 0.1]),
)
def test_equals_the_reference(
    seed: int, bits: int, group_size: int, act_order: bool, block_size: int, clip: str, sym: bool, damping: float
) -> None:
    """Linear(6, 8), float64: every option, against the optimal-brain loop that inverts H and updates the inverse."""
    weight, hessian = layer(seed)
    shared = {"act_order": act_order, "clip": clip, "damping": damping, "sym": sym}
    fast = quantize_gptq(weight, hessian, bits, group_size, block_size=block_size, **shared)
    assert same(fast, quantize_gptq_reference(weight, hessian, bits, group_size, **shared))


@pytest.mark.parametrize("act_order", [True, False])
def test_float32_equals_the_reference(act_order: bool) -> None:
    weight, hessian = layer(1)
    fast = quantize_gptq(weight.float(), hessian.float(), 3, 2, act_order=act_order)
    assert same(fast, quantize_gptq_reference(weight.float(), hessian, 3, 2, act_order=act_order))


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("group_size", [4, 16, 48])
def test_blocks_and_sweeps_change_nothing(act_order: bool, group_size: int) -> None:
    """Columns taken one by one, and the number of rows in one sweep, are a matter of speed alone."""
    weight, hessian = layer(8, d_out=9, d_in=48, tokens=100)
    prepared = prepare(hessian, act_order=act_order)
    whole = quantize_gptq_site({"a": weight, "b": weight[:5]}, prepared, [3, 4], group_size, block_size=48)
    for block_size, sweep_bytes in ((1, 1 << 20), (5, 2 * 48 * 8 * 4), (16, 1)):
        cut = quantize_gptq_site(
            {"a": weight, "b": weight[:5]}, prepared, [3, 4], group_size, block_size=block_size, sweep_bytes=sweep_bytes
        )
        assert all(same(cut[key], whole[key]) for key in whole)


def test_output_error_is_the_mean_squared_output() -> None:
    g = torch.Generator().manual_seed(0)
    x, d = torch.randn(50, 6, generator=g), torch.randn(8, 6, generator=g)
    expected = float((x @ d.T).square().sum(1).mean())
    assert output_error(d, x.T @ x / 50) == pytest.approx(expected, rel=1e-5)


def test_dead_columns_become_zero_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    weight, hessian = layer(6)
    hessian[2] = hessian[:, 2] = 0
    with caplog.at_level(logging.DEBUG):
        for act_order in (True, False):
            q = quantize_gptq(weight, hessian, 4, 3, act_order=act_order, name="model.layers.1.mlp.down_proj")
            assert torch.equal(q.dequantize()[:, 2], torch.zeros(8))
            assert same(q, quantize_gptq_reference(weight, hessian, 4, 3, act_order=act_order))
    assert "model.layers.1.mlp.down_proj: 1 of 6 input channels are dead" in caplog.text


def test_fewer_tokens_than_channels() -> None:
    """A singular Hessian is what damping is for; without damping it is an error that names the layer."""
    weight, _ = layer(7)
    x = torch.ones(1, 6, dtype=torch.float64)
    quantize_gptq(weight, x.T @ x, 4, 3)
    with pytest.raises(QuantizeError, match=r"^lm: .*damping 0"):
        quantize_gptq(weight, x.T @ x, 4, 3, damping=0.0, name="lm")


def test_float64_where_float32_fails(caplog: pytest.LogCaptureFixture) -> None:
    def nearly_singular(seed: int) -> torch.Tensor:
        g = torch.Generator().manual_seed(seed)
        basis = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=torch.float64)).Q
        return ((basis * torch.logspace(0, -7.5, 6, dtype=torch.float64)) @ basis.T).float()

    # Which matrix float32 fails on depends on the machine's LAPACK: take the first.
    stored = next(
        h
        for h in map(nearly_singular, range(1000))
        if upper_factor(h.flip(0, 1)) is None and upper_factor(h.flip(0, 1).double()) is not None
    )
    with caplog.at_level(logging.DEBUG):
        prepared = prepare(stored, act_order=False, damping=0.0, name="q")
    assert "factored in float64" in caplog.text
    assert prepared.feedback.dtype == torch.float32


def test_errors_name_the_layer() -> None:
    weight, hessian = layer(9)
    cases = {
        "Hessian has NaN": (weight, hessian * float("nan")),
        "Hessian is zero": (weight, torch.zeros(6, 6)),
        "not positive definite": (weight, -hessian),
        "square": (weight, hessian[:5]),
        "Hessian [6, 6]": (weight[:, :4], hessian),
        "layers.0.q has 48 weights": (weight * float("nan"), hessian),
    }
    calls = {words: partial(quantize_gptq, *case, 4, 2, name="layers.0.q") for words, case in cases.items()}
    refused(QuantizeError, calls)
    refused(QuantizeError, {"negative": lambda: quantize_gptq(weight, hessian, 4, 2, damping=-1)})


def test_parameters_have_the_defaults_of_the_functions() -> None:
    """A method's parameters are read without torch, so that the numbers stand there again."""
    given = GptqParams().model_dump()
    own = [inspect.signature(function).parameters for function in (prepare, quantize_gptq_site)]
    assert {name: next(each[name].default for each in own if name in each) for name in given} == given
    assert given["damping"] == parity.DAMPING
