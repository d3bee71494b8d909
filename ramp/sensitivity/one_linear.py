"""Scores of a model with one linear changed at a time, for the sensitivities that measure the KL.

The folded float model is scored on a few windows of calibration text, again with one linear's weight replaced, and so
on. The score of the unchanged model (rounding of the stored reference, some 1e-7) is taken off.

The model is streamed. What enters a block is the same for all candidates that differ in it or behind it, so a candidate
starts at its own block; all candidates of some consecutive blocks go through the later ones together, as many as their
states have room for, and each round reads the blocks from its first one on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ramp.models.architecture import LinearSpec
from ramp.models.block_runner import BlockRunner
from ramp.models.memory import StateRoom, free_bytes
from ramp.models.streamed_model import StreamedModel
from ramp.scoring.kl_divergence import Scorer, batches
from ramp.sensitivity.setting import SensitivityError, Setting

log = logging.getLogger("ramp.sensitivity.one_linear")

CPU_ROUND_BYTES = 512 << 20
"""States of the candidates of one round on a processor; on a GPU, a third of what is free."""

Candidates = Callable[[LinearSpec, Tensor], Iterator[tuple[int, str, Tensor]]]
"""A linear and its weight [d_out, d_in] -> the candidates: a number, a name for errors, other values of the weight."""

States = list[Tensor]
"""Per batch of windows, the states [batch, length, hidden]."""


@contextmanager
def restored(weight: Tensor) -> Iterator[None]:
    """Restore the weight, bit for bit, when the block ends."""
    old = weight.detach().clone()
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(old)


class OneAtATime:
    """Candidates that differ from a base model in one linear, scored against the float model of a setting."""

    def __init__(self, setting: Setting, base: BlockRunner | None = None) -> None:
        """base: the model that candidates are made of; None: the float model."""
        self.setting, device = setting, setting.device
        self.base = base or setting.runner()
        self.scorer = Scorer(StreamedModel.of(setting.runner()), setting.windows)
        self.parts = list(batches(setting.windows, device))

    def _per_round(self, candidates: int) -> int:
        """Return how many blocks' candidates go through the later blocks together."""
        device, config = self.base.device, self.base.config
        room = CPU_ROUND_BYTES if device.type == "cpu" else free_bytes(device) // 3
        states = self.setting.windows.numel() * int(config.hidden_size) * self.base.dtype.itemsize
        return max(1, room // max(1, states * candidates))

    @torch.inference_mode()
    def kl(self, candidates: Candidates, count: int) -> tuple[np.ndarray, float]:
        """Return the KL of every candidate, float64 [n, count], 0 where there is none, and that of the base.

        ``candidates`` numbers them from 0 to ``count`` - 1. Raises ``SensitivityError`` for a KL that is not finite.
        """
        values, base = np.zeros((len(self.setting.bank.linears), count)), np.nan
        step, first = self._per_round(7 * count), 0
        room = StateRoom(self.base.device)
        embedded = self.base.embedded(self.setting.windows)
        entering = [room.keep(embedded[part]) for part in self.parts]
        while first < len(self.base.layers):
            later, found, whole = self._round(first, step, entering, candidates)
            for (linear, number, what), states in found:
                values[linear.index, number] = self._score(states, f"{linear.name} {what}")
            if first == 0:
                base = self._score(whole, f"{self.setting.bank.path} before any change")
            first, entering = first + step, later
            log.info("measured %d of %d blocks", min(first, len(self.base.layers)), len(self.base.layers))
        return values, base

    def _round(
        self, first: int, step: int, entering: States, candidates: Candidates
    ) -> tuple[States, list[tuple[tuple[LinearSpec, int, str], States]], States]:
        """Run the candidates of blocks ``first`` to ``first + step - 1`` to the end.

        Returns what enters the next round's first block, the candidates with their last states, and the base's.
        """
        found: list[tuple[tuple[LinearSpec, int, str], States]] = []
        last = first + step
        later: States = []
        for layer in self.base.layers[first:]:
            with self.base.block(layer) as block:
                for _, states in found:
                    self._advance(block, states)
                if layer < last:
                    modules = self.base.linears(block)
                    for linear in (x for x in self.setting.bank.linears if x.layer == layer):
                        weight: Any = modules[linear.role].weight
                        for number, what, values in candidates(linear, weight):
                            with restored(weight):
                                weight.copy_(values)
                                found.append(((linear, number, what), [self._run(block, x) for x in entering]))
                if layer < last or first == 0:  # the first round takes the base to the end
                    entering = [self._run(block, x) for x in entering]
                if layer == last - 1:
                    later = entering
        return later, found, entering

    def _run(self, block: Any, x: Tensor) -> Tensor:
        return self.base.run(block, x.to(self.base.device))

    def _advance(self, block: Any, states: States) -> None:
        for x in states:
            x.copy_(self._run(block, x))

    def _score(self, states: States, what: str) -> float:
        norm = self.base.final_norm()
        score = self.scorer.compare((part, norm(x)) for part, x in zip(self.parts, states, strict=True))
        if not np.isfinite(score.kl):
            raise SensitivityError(f"the KL of {what} is {score.kl}: nothing to compare, use --dtype float32")
        return score.kl
