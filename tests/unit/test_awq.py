"""AWQ's scales and SmoothQuant's formula; the search is tested against its specification in test_reference.py."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from ramp.quantizers import awq
from ramp.quantizers.affine import QuantizeError
from ramp.quantizers.gptq import output_error
from tests.refusals import refused

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


def test_finalists_of_some_rows_are_scored_on_all() -> None:
    weights, _, hessian, absmean = layer()
    search = partial(awq.ScaleSearch, weights, hessian, absmean, 16)
    exact = search().best([3])
    raced = search(max_rows=8).best([3])  # all of the second weight
    assert raced[1] == exact[1]
    assert exact[2] <= raced[2] <= raced[1]
    assert raced[2] == awq.scaled_error(weights, hessian, raced[0], [3], 16)
    enough = search(max_rows=16).best([3])
    assert torch.equal(enough[0], exact[0])


def test_errors_serve_every_set_of_widths() -> None:
    weights, _, hessian, absmean = layer()
    new = partial(awq.ScaleSearch, weights, hessian, absmean, 16, max_rows=8)
    search = new()
    for bits in ([3, 4], [4], [3], [2, 4]):
        shared, alone = search.best(bits), new().best(bits)
        assert torch.equal(shared[0], alone[0])
        assert shared[1:] == alone[1:]


def test_error_of_a_wide_input() -> None:
    generator = torch.Generator().manual_seed(0)
    difference, x = torch.randn(3, 2100, generator=generator), torch.randn(64, 2100, generator=generator)
    expected = float((difference.double() @ x.double().T).square().sum())
    assert output_error(difference, x.T @ x) == pytest.approx(expected, rel=1e-5)
    assert output_error(difference.double(), x.double().T @ x.double()) == pytest.approx(expected, rel=1e-12)


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
    search = partial(awq.ScaleSearch, weights, name="attn_in")
    calls = {
        "attn_in: mean activation [31]": lambda: search(hessian, absmean[1:], 16),
        "attn_in: the Hessian has NaN": lambda: search(hessian * float("nan"), absmean, 16),
        "attn_in: the Hessian is zero": lambda: search(hessian * 0, absmean, 16),
        "attn_in: groups of 12": lambda: search(hessian, absmean, 12).best([3]),
        "at least 0": lambda: awq.smoothquant_scale(-absmean, absmean, 0.5),
        "alpha": lambda: awq.smoothquant_scale(absmean, absmean, 1.5),
    }
    refused(QuantizeError, calls)
