"""Weights as functions of their scales, gains as functions of their change: modules that stand in a model to be tuned.

A weight is sum_s scales * basis, where the basis holds what is frozen: codes less zero-points of the affine grid, codes
with sub-scales and sub-minima of ggml blocks. Every trained number x is kept as x0 (1 + e), e from 0, so that a step of
e means the same for scales of all sizes.

The float weight exists while its linear is computed, and again while its gradient is; the basis is kept in one byte or
two per weight where that is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.parametrize import register_parametrization

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def product(scales: Tensor, basis: Tensor) -> Tensor:
    """Return sum_s scales * basis, [rows, blocks * block], of [rows, s, blocks] and [rows, s, blocks, block]."""
    weight = scales[:, 0, :, None] * basis[:, 0]
    for index in range(1, basis.shape[1]):
        weight += scales[:, index, :, None] * basis[:, index]
    return weight.flatten(1)


def slopes_of_scales(slopes: Tensor, basis: Tensor) -> Tensor:
    """Return the gradient of scales, [rows, s, blocks], from that of the weight, [rows, blocks * block]."""
    blocks = slopes.view(len(basis), *basis.shape[2:])
    return torch.stack([(blocks * basis[:, s]).sum(-1) for s in range(basis.shape[1])], 1)


class _Product(torch.autograd.Function):
    """``product``, whose gradient keeps nothing but the basis."""

    @staticmethod
    def forward(ctx: Any, scales: Tensor, basis: Tensor) -> Tensor:
        ctx.save_for_backward(basis)
        return product(scales, basis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (basis,) = ctx.saved_tensors
        return slopes_of_scales(gradients[0], basis), None


class _Linear(torch.autograd.Function):
    """x W^T + b with W the ``product``, which is made again for the gradient instead of being kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: Tensor, basis: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, scales, basis)
        return linear(x, product(scales, basis), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, scales, basis = ctx.saved_tensors
        slopes = gradients[0]  # (..., rows)
        of_weight = slopes.flatten(0, -2).T @ x.flatten(0, -2)
        of_scales = slopes_of_scales(of_weight, basis)
        of_input = slopes @ product(scales, basis) if ctx.needs_input_grad[0] else None
        return of_input, of_scales, None, None


def narrowest(basis: Tensor) -> Tensor:
    """Return a basis, of any shape, as int8 or float16 where that holds it exactly, else as it is."""
    for dtype in (torch.int8, torch.float16):
        small = basis.to(dtype)
        if torch.equal(small.to(basis.dtype), basis):
            return small
    return basis


class ScaledWeight(nn.Module):
    """A linear, or an embedding, whose weight follows from its scales; ``change`` is trained."""

    start: Tensor
    basis: Tensor
    bias: Tensor | None

    def __init__(self, scales: Tensor, basis: Tensor, bias: Tensor | None = None) -> None:
        """scales: float32 [rows, s, blocks]; basis: [rows, s, blocks, block]; bias: [rows], frozen."""
        super().__init__()
        self.register_buffer("start", scales)
        self.register_buffer("basis", narrowest(basis))
        self.register_buffer("bias", bias)
        self.change = nn.Parameter(torch.zeros_like(scales))

    @property
    def scales(self) -> Tensor:
        """The scales as they are now, with their graph: [rows, s, blocks]."""
        return self.start * (1 + self.change)

    @property
    def weight(self) -> Tensor:
        """The whole weight, with its graph: float32 [rows, columns]."""
        made: Tensor = _Product.apply(self.scales, self.basis)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Return the linear's outputs for float inputs, the rows of an embedding for token ids."""
        if x.is_floating_point():
            made: Tensor = _Linear.apply(x, self.scales, self.basis, self.bias)
            return made
        return (self.scales[x].unsqueeze(-1) * self.basis[x]).sum(-3).flatten(-2)


class ScaledGain(nn.Module):
    """The parametrization of a norm's gain by its change."""

    start: Tensor

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", gain.detach().clone())
        self.change = nn.Parameter(torch.zeros_like(self.start))

    def forward(self, _: Tensor) -> Tensor:
        """Return the gain."""
        return self.start * (1 + self.change)


def scale_gain(norm: nn.Module) -> ScaledGain:
    """Let the gain of a norm follow from its change; return what is trained."""
    gain = ScaledGain(norm.get_parameter("weight"))
    register_parametrization(norm, "weight", gain, unsafe=True)
    return gain


class Trained(Protocol):
    """A holder of a trained change."""

    @property
    def change(self) -> nn.Parameter:
        """The change, e in x0 (1 + e)."""


Scales = TypeVar("Scales", bound=Trained)


@dataclass(frozen=True)
class Student(Generic[Scales]):
    """A model whose weights and gains follow from what is trained, by the names of the file's tensors."""

    model: PreTrainedModel
    scales: dict[str, Scales]
    gains: dict[str, ScaledGain]

    @property
    def changes(self) -> list[nn.Parameter]:
        """The trained parameters."""
        return [each.change for each in self.scales.values()] + [each.change for each in self.gains.values()]
