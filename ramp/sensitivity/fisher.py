"""Fisher sensitivities: the KL that each linear at each width costs, from one backward pass per window.

For a small weight change d the mean KL per token between the float model p and the changed one is

    KL = 0.5 d^T F d,   F = (1/T) sum_s E_{y ~ p_s}[g_s g_s^T],   g_s = gradient of -log p(y_s)

with F the Fisher information per token and d = bank weights of one linear at one width - folded float weights. Linears
are taken one by one (F block-diagonal over linears), so that predictions add up. One backward pass per window gives the
gradient of the *sum* over its T scored tokens, G = sum_s g_s. Labels being drawn from the model itself,
E[g_s | text before s] = 0, the cross terms of different tokens vanish and E[G G^T] = T F: dividing by T, not T^2, is
what makes the proxy nats per token. (The text's own next tokens as labels give the empirical Fisher instead, right only
as far as the model predicts the text: Kunstner et al. 2019, arXiv:1905.12558.)

d^T F d is summed over positions: the linear's output at position t being y_t = W x_t, G = sum_t delta_t x_t^T with
delta_t the gradient at its output, so d . G = sum_t delta_t . (d x_t). With positions taken as independent, d^T F d =
(1/T) sum_t (delta_t . (d x_t))^2. It sees how rounding errors of a row cancel on real inputs, as GPTQ's do by design,
which F's diagonal does not; K-FAC (Martens and Grosse 2015, arXiv:1503.05671) also splits delta from x, here they stay
together. Measurements: docs/decisions.md.

The cost in forward tokens is 3 per token, a backward pass counting as two, and one more per width, since every d is
multiplied with every input. Both passes go block by block: the forward pass keeps what enters each block, the backward
pass loads it again, runs it once more and goes back through it. Memory: one block, the head, and those states.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ramp.bank.bank import Bank
from ramp.models.block_backward import Seen, block_backward
from ramp.models.block_runner import BlockRunner
from ramp.models.memory import StateRoom
from ramp.sensitivity.setting import SensitivityError, Setting

log = logging.getLogger("ramp.sensitivity.fisher")

SEEN_BYTES = 2 << 30
"""Inputs and gradients of one block's linears that are kept until its bank entries are de-quantized: of windows of 512
tokens of a 7B, sixteen."""


def summed_nll(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return the sum of -log p(label) over tokens, labels drawn from p; logits float32 (tokens, vocabulary).

    The scalar has the logits' graph.
    """
    if not bool(torch.isfinite(logits).all()):
        raise SensitivityError("the float model's logits are NaN or infinite on this text: use --dtype float32")
    chances = logits.detach().softmax(-1).cpu()  # on the host, so that a seed means the same labels on every device
    targets = torch.multinomial(chances, 1, generator=generator)[:, 0].to(logits.device)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")


@torch.no_grad()
def block_inputs(runner: BlockRunner, windows: Tensor, room: StateRoom) -> tuple[list[Tensor], Tensor]:
    """Return what enters each block and what leaves the last one, [count, length, hidden] each."""
    entering: list[Tensor] = []
    states = room.keep(runner.embedded(windows))
    for layer in runner.layers:
        entering.append(states)
        states = room.empty(states.shape, states.dtype)
        with runner.block(layer) as block:
            for before, after in zip(entering[-1].split(1), states.split(1), strict=True):
                after.copy_(runner.run(block, before.to(runner.device)))
    return entering, states


def through_the_head(runner: BlockRunner, states: Tensor, generator: torch.Generator) -> None:
    """Put the gradient of each window's summed NLL in the place of its last states [count, length, hidden]."""
    norm, head = runner.final_norm(), runner.head()
    for window in states.split(1):
        leaf = window.to(runner.device, copy=True).requires_grad_(True)
        with torch.enable_grad():
            logits = nn.functional.linear(norm(leaf), head)[0, :-1].float()  # (length - 1, vocabulary)
            summed_nll(logits, generator).backward()
        window.copy_(leaf.grad)


class Squares:
    """Sums of (delta_t . (d x_t))^2 over the positions of all windows, float64 [n, w]."""

    def __init__(self, bank: Bank, scored: int) -> None:
        self.bank, self._scored = bank, scored
        self.proxy = np.zeros((len(bank.linears), len(bank.widths)))

    @torch.no_grad()
    def add(self, layer: int, modules: dict[str, Any], windows: list[Seen]) -> None:
        """Add what the linears of one block saw in some windows, in their order."""
        for linear in self.bank.linears:
            if linear.layer != layer:
                continue
            weight = modules[linear.role].weight.detach()
            for a, width in enumerate(self.bank.widths):
                d = self.bank.dequantize(linear.name, width, device=weight.device) - weight
                for seen in windows:
                    rows, slopes = (each.float() for each in seen[linear.role])
                    squares = float((rows @ d.T).mul_(slopes).sum(-1).square_().sum())
                    self.proxy[linear.index, a] += 0.5 * squares / self._scored


def fisher_proxy(runner: BlockRunner, bank: Bank, windows: Tensor, *, seed: int = 0) -> np.ndarray:
    """Return the sensitivity of every linear and width: float64 [n, w], nats per token.

    runner: the *folded* float model of the bank, float32 (a bfloat16 weight is itself off by about a 6-bit step).
    windows: int64 [count, length]. Raises ``SensitivityError``.
    """
    room = StateRoom(runner.device)
    entering, gradient = block_inputs(runner, windows, room)
    through_the_head(runner, gradient, torch.Generator().manual_seed(seed))
    found = Squares(bank, len(windows) * (windows.shape[1] - 1))
    for layer in reversed(runner.layers):
        inputs = entering.pop()
        with runner.block(layer) as block:
            modules, group = runner.linears(block), list[Seen]()
            for before, delta in zip(inputs.split(1), gradient.split(1), strict=True):
                upstream = delta.to(runner.device, copy=True)  # ``seen`` may hold it: down's output is the block's
                back, seen = block_backward(runner, block, before.to(runner.device), upstream)
                delta.copy_(back)
                group.append(seen)
                if len(group) * sum(x.nbytes for pair in seen.values() for x in pair) >= SEEN_BYTES:
                    found.add(layer, modules, group)
                    group.clear()
            found.add(layer, modules, group)
        log.info("backward pass: block %d of %d", len(runner.layers) - layer, len(runner.layers))
    check(found.proxy, bank)
    return found.proxy


def check(proxy: np.ndarray, bank: Bank) -> None:
    """Raise ``SensitivityError`` for a sensitivity that is not finite; warn of a linear that no gradient reached."""
    bad = np.flatnonzero(~np.isfinite(proxy).all(axis=1))
    if len(bad):
        name = bank.linears[bad[0]].name
        raise SensitivityError(f"the gradient of {name} is NaN or infinite on this text: use --dtype float32")
    unreached = np.flatnonzero((proxy == 0).all(axis=1))
    if len(unreached):
        first = bank.linears[unreached[0]].name
        log.warning(
            "sensitivity 0 for %d of %d linears, %s the first: no gradient reached them; use more text",
            len(unreached), len(bank.linears), first,
        )  # fmt: skip


def measure(setting: Setting, kind: str) -> dict[str, Any]:
    """Return the file of Fisher sensitivities."""
    proxy = fisher_proxy(setting.runner(), setting.bank, setting.windows, seed=setting.seed)
    tokens = setting.windows.numel() * (3 + len(setting.bank.widths))
    return setting.report(kind, proxy, tokens, estimator="positions", labels="model", seed=setting.seed)
