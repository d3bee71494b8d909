"""Attention in tiles gives what torch's plain form gives."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ramp.core import attention
from ramp.core.arithmetic import ENVIRONMENT, share

REPO = Path(__file__).resolve().parents[2]

SHAPES = [(2, 4, 2, 7, 16), (3, 6, 6, 61, 32), (2, 9, 3, 128, 64), (1, 14, 2, 333, 64), (1, 4, 1, 512, 64)]

PROGRAM = """
import torch
from torch.nn.functional import scaled_dot_product_attention
from ramp.core import arithmetic
arithmetic.enable(1)
torch.manual_seed(0)
shapes = {shapes}
for batch, heads, groups, length, width in shapes:
    q, k, v = (torch.randn(batch, length, n, width).transpose(1, 2) for n in (heads, groups, groups))
    plain = torch.ops.aten._scaled_dot_product_attention_math(q, k, v, None, 0.0, True, enable_gqa=True)[0]
    assert torch.equal(scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), plain), length
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    assert torch.equal(scaled_dot_product_attention(q, k, v, mask, enable_gqa=True), plain), "mask"
    q.requires_grad_(True)
    scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).sum().backward()
    assert q.grad is not None
"""


def test_short_windows_have_the_bytes_of_the_plain_form() -> None:
    program = PROGRAM.format(shapes=SHAPES)
    environment = {**ENVIRONMENT, "PATH": "", "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("length", [513, 1000, 2048])
def test_long_windows_differ_by_rounding(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(1, n, length, 16, generator=generator) for n in (6, 2, 2))
    exact = torch.nn.functional.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), is_causal=True, enable_gqa=True
    )
    made = attention.causal(q, k, v, None, share)
    assert (made - exact).abs().max() < 2e-6


def test_what_it_does_not_do_is_left_to_torch() -> None:
    q = torch.randn(1, 2, 4, 8)
    assert attention.applies(q, q, q, None, 0.0, True)
    assert not attention.applies(q, q, q, None, 0.0, False)
    assert not attention.applies(q, q, q, torch.zeros(4, 4), 0.0, True)
    assert not attention.applies(q, q[:, :, :3], q[:, :, :3], None, 0.0, True)
    assert not attention.applies(q.requires_grad_(True), q, q, None, 0.0, True)
