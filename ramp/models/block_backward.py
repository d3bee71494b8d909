"""One decoder block forward and back: the gradient at its inputs, and what each of its linears saw."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ramp.models.block_runner import BlockRunner

Seen = dict[str, tuple[Tensor, Tensor]]
"""Role of a linear -> its input rows [tokens, d_in] and the gradients at its output [tokens, d_out]."""


def block_backward(runner: BlockRunner, block: nn.Module, inputs: Tensor, upstream: Tensor) -> tuple[Tensor, Seen]:
    """Run a block on ``inputs`` [count, length, hidden] and back from the gradient at its outputs, of that shape.

    Returns the gradient at the inputs, and what its linears saw. No weight gets a gradient.
    """
    seen: Seen = {}

    def remember(role: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            def at_gradient(slopes: Tensor) -> None:
                seen[role] = (args[0].detach().flatten(0, 1), slopes.flatten(0, 1))

            output.register_hook(at_gradient)

        return hook

    states = inputs.detach().requires_grad_(True)
    with ExitStack() as hooks, torch.enable_grad():
        for role, module in runner.linears(block).items():
            hooks.callback(module.register_forward_hook(remember(role)).remove)
        runner.run(block, states).backward(upstream)
    assert states.grad is not None
    return states.grad, seen
