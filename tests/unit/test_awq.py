"""AWQ's scale search on layers where the right answer is known, and SmoothQuant's formula."""

from __future__ import annotations

import pytest
import torch

from ramp.quantizers import awq
from ramp.quantizers.affine import QuantizeError, quantize_rtn

D_IN = 32


def layer(seed: int = 0, outlier: float = 30.0) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two weights that share an input with a few loud channels: (weights, X [tokens, d_in], H, mean|X|)."""
    g = torch.Generator().manual_seed(seed)
    weights = [torch.randn(n, D_IN, generator=g) for n in (16, 8)]
    x = torch.randn(300, D_IN, generator=g)
    x[:, ::8] *= outlier
    return weights, x, x.T @ x / 300, x.abs().mean(0)


def test_scale_is_normalised() -> None:
    absmean = layer()[3]
    for ratio in (0.0, 0.3, 0.95):
        scale = awq.awq_scale(absmean, ratio)
        assert float(scale.max() * scale.min()) == pytest.approx(1, rel=1e-5)
        torch.testing.assert_close(scale / scale[0], (absmean / absmean[0]).pow(ratio))
    assert torch.equal(awq.awq_scale(absmean, 0.0), torch.ones(D_IN))
    absmean[3] = 0  # a dead channel
    assert bool(torch.isfinite(awq.awq_scale(absmean, 0.5)).all())
    assert bool((awq.awq_scale(absmean, 0.5) > 0).all())


def test_error_is_that_of_the_layer_run_on_its_tokens() -> None:
    """Against the outputs themselves: || (X / s) Q(W s)^T - X W^T ||^2 per token, summed over weights and widths."""
    weights, x, hessian, absmean = layer()
    scale = awq.awq_scale(absmean, 0.4)
    expected = 0.0
    for weight in weights:
        for bits in (3, 4):
            output = (x / scale) @ quantize_rtn(weight * scale, bits, 16).dequantize().T
            expected += float((output - x @ weight.T).square().sum(1).mean())
    assert awq.scaled_error(weights, hessian, scale, (3, 4), 16) == pytest.approx(expected, rel=2e-5)


def test_search_takes_the_best_of_the_grid() -> None:
    weights, _, hessian, absmean = layer()
    scale, before, after = awq.search_scale(weights, hessian, absmean, [3, 4], 16)
    candidates = [awq.awq_scale(absmean, step / 20) for step in range(20)]
    errors = [awq.scaled_error(weights, hessian, s, [3, 4], 16) for s in candidates]
    best = min(range(20), key=errors.__getitem__)
    assert best > 0  # loud channels: scaling pays, so this is no trivial case
    assert torch.equal(scale, candidates[best])
    assert (before, after) == (errors[0], errors[best])
    assert after < 0.7 * before


def test_equal_channels_need_no_scale() -> None:
    """Where all channels have one magnitude every candidate is all ones, and nothing is gained."""
    weights, _, hessian, _ = layer(outlier=1.0)
    scale, before, after = awq.search_scale(weights, hessian, torch.full((D_IN,), 0.7), [3], 16)
    assert torch.equal(scale, torch.ones(D_IN))
    assert before == after


def test_tie() -> None:
    """Grouped heads: 2 key/value heads of 4 channels, each read by 4 query heads; the scale must repeat."""
    weights, _, hessian, absmean = layer()

    def tie(scale: torch.Tensor) -> torch.Tensor:
        return scale.view(2, 4, 4).mean(1).repeat_interleave(4, 0).reshape(-1)

    scale, before, after = awq.search_scale(weights, hessian, absmean, [3], 16, tie=tie)
    assert torch.equal(scale, tie(scale))
    assert not torch.equal(scale, torch.ones(D_IN))
    assert after <= before
    assert after == awq.scaled_error(weights, hessian, scale, [3], 16)


def test_rows_are_spread_evenly() -> None:
    weights = layer()[0]
    rows = awq.spread_rows(weights[0], 4)
    assert torch.equal(rows, weights[0][[0, 5, 10, 15]])
    assert awq.spread_rows(weights[0], 16) is weights[0]


def test_finalists_of_some_rows_are_scored_on_all() -> None:
    weights, _, hessian, absmean = layer()
    exact = awq.search_scale(weights, hessian, absmean, [3], 16)
    raced = awq.search_scale(weights, hessian, absmean, [3], 16, max_rows=4)
    assert raced[1] == exact[1]
    assert exact[2] <= raced[2] <= raced[1]
    assert raced[2] == awq.scaled_error(weights, hessian, raced[0], [3], 16)
    enough = awq.search_scale(weights, hessian, absmean, [3], 16, max_rows=16)
    assert torch.equal(enough[0], exact[0])


def test_smoothquant() -> None:
    x, w = torch.tensor([1.0, 16.0, 0.0]), torch.tensor([4.0, 1.0, 1.0])
    half = awq.smoothquant_scale(x, w, 0.5)
    assert half[:2].tolist() == pytest.approx([0.5, 4.0])
    assert float(half[2]) > 0  # dead channel
    # a = 0.5 gives activation x / s and weight w * s the same maximum: the paper's "equal difficulty".
    torch.testing.assert_close((x / half)[:2], (w * half)[:2])
    assert awq.smoothquant_scale(x, w, 1.0)[:2].tolist() == pytest.approx([1.0, 16.0])
    assert awq.smoothquant_scale(x, w, 0.0)[:2].tolist() == pytest.approx([0.25, 1.0])


def test_errors() -> None:
    weights, _, hessian, absmean = layer()
    with pytest.raises(QuantizeError, match=r"^model\.layers\.0\.attn_in: mean activation \[31\] must be 32"):
        awq.search_scale(weights, hessian, absmean[1:], [3], 16, name="model.layers.0.attn_in")
    with pytest.raises(QuantizeError, match="Hessian has NaN"):
        awq.search_scale(weights, hessian * float("nan"), absmean, [3], 16)
    with pytest.raises(QuantizeError, match=r"^attn_in: the Hessian is zero: no calibration token"):
        awq.search_scale(weights, hessian * 0, absmean, [3], 16, name="attn_in")
    with pytest.raises(QuantizeError, match=r"^attn_in: groups of 12 do not divide"):
        awq.search_scale(weights, hessian, absmean, [3], 12, name="attn_in")
    with pytest.raises(QuantizeError, match="at least 0"):
        awq.smoothquant_scale(-absmean, absmean, 0.5)
    with pytest.raises(QuantizeError, match="alpha is between"):
        awq.smoothquant_scale(absmean, absmean, 1.5)
