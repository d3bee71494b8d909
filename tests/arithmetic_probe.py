"""Digests of a small piece of every kind of work: ``python -m tests.arithmetic_probe``, a stage of its own.

tests/unit/test_arithmetic.py runs it under the limits of other processors and compares.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from ramp.core import cli
from ramp.core.arithmetic import ELEMENTARY, ENVIRONMENT
from ramp.core.provenance import LIMITS
from ramp.quantizers.gptq import prepare, quantize_gptq_site

SHAPES = ((3, 5, 7), (1, 64, 1), (64, 1, 64), (600, 20, 700))


def digest(*tensors: Tensor) -> str:
    """Return sixteen digits of the sha256 of the tensors' bytes."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def product_forms(left: Tensor, right: Tensor, added: Tensor, stack: Tensor, many: Tensor) -> list[Tensor]:
    """Return the products that torch makes through its several operators."""
    return [
        left @ right.T,
        torch.mm(left, right.T, out=left.new_empty(0)),
        torch.addmm(added, left, right.T, beta=0.5, alpha=2),
        added.clone().addmm_(left, right.T),
        left @ right[0],
        torch.dot(left[0], right[0]),
        torch.nn.functional.linear(stack, right),
        many @ stack,
        torch.baddbmm(added[:1, :1].expand(2, 1, 1), stack[:, :1], stack[:, :1].mT),
    ]


def products(draw: torch.Generator) -> tuple[list[Tensor], float]:
    """Return products of many shapes and strides, and their largest error as a share of the bound k eps |A| |B|."""
    made, worst = [], 0.0
    for m, k, n in SHAPES:
        factors = [torch.randn(s, generator=draw) for s in ((m, k), (n, k), (m, n), (2, m, k), (2, n, m))]
        found = product_forms(*factors)
        true = product_forms(*(each.double() for each in factors))
        bound = product_forms(*(each.double().abs() for each in factors))
        terms = 3 * (max(m, k) + 2) * torch.finfo(torch.float32).eps
        worst = max(
            worst, *(float(((f - t).abs() / b).max()) / terms for f, t, b in zip(found, true, bound, strict=True))
        )
        half = factors[0].bfloat16() @ factors[1].bfloat16().T
        assert half.dtype == torch.bfloat16
        made += [*found, half.float()]
    return made, worst


def elementary(draw: torch.Generator) -> tuple[dict[str, Tensor], float]:
    """Return the replaced functions on contiguous, strided and empty tensors, and their largest relative error."""
    found, worst = {}, 0.0
    for name in ELEMENTARY:
        function = getattr(torch, name)
        inside = torch.rand(300_001, generator=draw) * (0.99 if name in ("asin", "acos", "erfinv") else 20)
        parts = [function(inside), function(inside[::3]), function(inside[:0]), getattr(inside.clone(), f"{name}_")()]
        parts.append(function(inside, out=torch.empty(0)))
        true = function(inside.double())
        close = (parts[0] - true).abs() / true.abs().clamp_min(1e-3)
        worst = max(worst, float(close.nan_to_num(0, 0, 0).max()))
        found[name] = torch.cat([each.reshape(-1) for each in parts])
        found[f"{name} of float64"] = true
    return found, worst


def attention(weights: Sequence[Tensor], hidden: Tensor) -> Tensor:
    """Return a causal attention layer with a gated MLP of hidden [b, n, d].

    weights: [3 d, d], [d, d], [2 h, d], [d, h].
    """
    both, out, up, down = weights
    q, k, v = (each.unflatten(-1, (4, -1)).transpose(1, 2) for each in (norm(hidden) @ both.T).chunk(3, -1))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    hidden = hidden + mixed.transpose(1, 2).flatten(2) @ out.T
    gate, value = (norm(hidden) @ up.T).chunk(2, -1)
    return hidden + (torch.nn.functional.silu(gate) * value) @ down.T


def norm(hidden: Tensor) -> Tensor:
    """Return hidden states divided by their root mean square."""
    return hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-6)


def training(draw: torch.Generator) -> list[Tensor]:
    """Return weights and log-probabilities of a small transformer after three steps along the scaled gradient."""
    sizes = [(512, 128), (384, 128), (128, 128), (512, 128), (128, 256)]
    weights = [(torch.randn(size, generator=draw) / 16).requires_grad_() for size in sizes]
    ids = torch.randint(0, 512, (2, 96), generator=draw)

    def log_probabilities() -> Tensor:
        return (attention(weights[1:], weights[0][ids]) @ weights[0].T).log_softmax(-1)

    for _ in range(3):
        torch.nn.functional.nll_loss(log_probabilities()[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        with torch.no_grad():
            for weight in weights:
                weight -= 0.1 * weight.grad / (weight.grad.square().mean().sqrt() + weight.grad.norm())
                weight.grad = None
    return [*weights, log_probabilities()]


def quantized(draw: torch.Generator) -> list[Tensor]:
    """Return the codes, scales and zero-points of GPTQ on correlated inputs."""
    inputs = torch.randn(4096, 128, generator=draw) @ torch.randn(128, 128, generator=draw)
    prepared = prepare(inputs.T @ inputs / len(inputs))
    weights = {"linear": torch.randn(96, 128, generator=draw)}
    made = quantize_gptq_site(weights, prepared, [3], 32)["linear", 3]
    return [made.codes, made.scales, made.zeros]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the digests and the errors."""
    cli.parser("Digests of a small piece of every kind of work.").parse_args(argv)
    draw = torch.Generator().manual_seed(0)
    made, product_error = products(draw)
    functions, relative_error = elementary(draw)
    tested = torch.randn(4, 6, dtype=torch.float64, generator=draw, requires_grad=True)
    torch.autograd.gradcheck(lambda x: (x @ x.T).exp().sum(), (tested * 0.1).detach().requires_grad_())
    digests = {"products": digest(*made)} | {name: digest(value) for name, value in functions.items()}
    digests |= {"training": digest(*training(draw)), "gptq": digest(*quantized(draw))}
    limits = {name: os.environ[name] for name in (*ENVIRONMENT, *LIMITS) if name in os.environ}
    errors = {"product_error": product_error, "relative_error": relative_error}
    print(json.dumps({"digests": digests, "limits": limits, **errors}))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
