"""Score all allocations of a model's last units; each runs from its first changed half-block on.

A decoder block adds the output of its attention to the residual stream, then that of its MLP. Cut between these, a
model is a chain of half-blocks. Allocations are visited depth first in forward order, so each costs the half-blocks
from its first changed unit on (for most of them the last one alone) and the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ramp.bank.bank import Bank
from ramp.models.architecture import architecture
from ramp.models.token_windows import check_windows
from ramp.optimum.units import OptimumError, Unit
from ramp.scoring.kl_divergence import head_weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AGREEMENT = 1e-4
"""Largest relative difference of the halves' final state to the model's own, float32."""


class HalfBlocks:
    """The float model on fixed windows, cut into half-blocks; scores allocations of ``units`` from a bank."""

    @torch.inference_mode()
    def __init__(
        self, model: PreTrainedModel, bank: Bank, units: Sequence[Unit], widths: Sequence[int], windows: Tensor
    ) -> None:
        """Run the float model once.

        model: folded float model, float32 or wider, in evaluation mode; widths: of the bank, ascending; windows: int64
        (windows, length).
        """
        self.model, self.units, self.widths = model, list(units), list(widths)
        arch = architecture(model.config)
        self.blocks = [model.get_submodule(f"{arch.blocks}.{i}") for i in range(model.config.num_hidden_layers)]
        self.norm, self.head = model.get_submodule(arch.final_norm), head_weight(model)
        windows = check_windows(windows, model.config, least=2)
        self.halves: list[tuple[int, str]] = list(dict.fromkeys(unit.half for unit in units))
        expected = [(layer, half) for layer in range(len(self.blocks)) for half in ("attention", "mlp")]
        if self.halves != expected[len(expected) - len(self.halves) :]:
            raise OptimumError("units must reach to the model's end without a gap")
        self.modules = {m.name: model.get_submodule(m.name) for unit in units for m in unit.members}
        self.float = {name: module.weight.data for name, module in self.modules.items()}
        dtype = self.head.dtype
        self.entries = [
            [
                {m.name: bank.quantized(m.name, bits).dequantize(torch.float32).to(dtype) for m in unit.members}
                for bits in widths
            ]
            for unit in units
        ]
        self._attention: dict[str, Any] = {}
        self.first = self._reach(windows, self.halves[0])  # (windows, length, hidden)
        self.targets = windows[:, 1:].reshape(-1)
        logits = self._logits(self._final())
        log_p = torch.log_softmax(logits, dim=-1)  # (tokens, vocab)
        self.p = log_p.exp()
        self.negentropy = torch.special.entr(self.p).sum(-1).neg()  # sum p log p
        self.nll_float = float(-log_p.gather(1, self.targets[:, None]).double().mean())

    def _reach(self, windows: Tensor, half: tuple[int, str]) -> Tensor:
        """Run the float model; keep the arguments of attention; return the state before ``half``; check the cut."""
        states: dict[int, Tensor] = {}
        handles = [
            block.register_forward_pre_hook(lambda _, args, i=index: states.__setitem__(i, args[0]))
            for index, block in enumerate(self.blocks)
        ]

        def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._attention = {key: value for key, value in kwargs.items() if key != "hidden_states"}

        attention: Any = self.blocks[0].self_attn
        handles.append(attention.register_forward_pre_hook(keep, with_kwargs=True))
        try:
            own = self.model.base_model(input_ids=windows, use_cache=False).last_hidden_state
        finally:
            for handle in handles:
                handle.remove()
        layer, which = half
        first = states[layer] if which == "attention" else self.run((layer, "attention"), states[layer])
        self.first = first
        off = float((self.norm(self._final()) - own).abs().max() / own.abs().max())
        if not off < AGREEMENT:
            raise OptimumError(
                f"half-blocks of this {self.model.config.model_type} model differ from the model by {off:.1e}: its "
                "blocks are not attention and MLP on a residual stream"
            )
        return first

    def _final(self) -> Tensor:
        """Return the state after the last half-block, with the weights that are in place."""
        x = self.first
        for half in self.halves:
            x = self.run(half, x)
        return x

    def run(self, half: tuple[int, str], x: Tensor) -> Tensor:
        """Run one half-block on (windows, length, hidden), with the weights that are in place."""
        layer, which = half
        block: Any = self.blocks[layer]
        if which == "mlp":
            return x + block.mlp(block.post_attention_layernorm(x))
        out = block.self_attn(hidden_states=block.input_layernorm(x), **self._attention)
        return x + (out[0] if isinstance(out, tuple) else out)

    def _logits(self, x: Tensor) -> Tensor:
        """Return the logits (tokens, vocab) of every position but each window's last."""
        hidden = self.norm(x[:, :-1].reshape(-1, x.shape[-1]))
        return linear(hidden, self.head)

    def place(self, unit: int, width: int | None) -> None:
        """Put a unit's weights at the width of this index in place; None: its float weights."""
        weights = self.entries[unit][width] if width is not None else self.float
        for member in self.units[unit].members:
            self.modules[member.name].weight.data = weights[member.name]  # a pointer moves, nothing is copied

    def measure(self, x: Tensor) -> tuple[float, float]:
        """Return mean KL(float || this) and mean NLL, nats per token, of a state after the last half-block.

        x: [windows, length, hidden], in the model's dtype; means are taken in float64.
        """
        z = self._logits(x)
        log_sum = torch.logsumexp(z, dim=-1)
        kl = self.negentropy + log_sum - torch.linalg.vecdot(self.p, z)  # sum p log p - sum p (z - lse)
        nll = log_sum - z.gather(1, self.targets[:, None])[:, 0]
        return float(kl.double().mean()), float(nll.double().mean())

    @torch.inference_mode()
    def score(self, choice: Sequence[int | None]) -> tuple[float, float]:
        """Return (KL, NLL) of one allocation; None leaves a unit float."""
        for unit, width in enumerate(choice):
            self.place(unit, width)
        return self.measure(self._final())

    @torch.inference_mode()
    def each(
        self, keep: Callable[[tuple[int, ...], float, float], None], skip: Callable[[tuple[int, ...]], bool]
    ) -> None:
        """Score every allocation, depth first, but those of a prefix for which ``skip(prefix)`` is true."""
        inside = {half: [i for i, unit in enumerate(self.units) if unit.half == half] for half in self.halves}

        def go(depth: int, prefix: tuple[int, ...], x: Tensor) -> None:
            if depth == len(self.halves):
                keep(prefix, *self.measure(x))
                return
            half = self.halves[depth]
            for choice in _product(prefix, len(inside[half]), len(self.widths), skip):
                for unit in inside[half]:
                    self.place(unit, choice[unit])
                go(depth + 1, choice, self.run(half, x))

        go(0, (), self.first)


def _product(
    prefix: tuple[int, ...], more: int, widths: int, skip: Callable[[tuple[int, ...]], bool]
) -> list[tuple[int, ...]]:
    """Return the continuations of ``prefix`` by ``more`` indices that are not skipped, the last changing fastest."""
    found = [prefix]
    for _ in range(more):
        found = [(*each, width) for each in found for width in range(widths) if not skip((*each, width))]
    return found
