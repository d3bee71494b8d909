"""A model of which one decoder block is in memory at a time, for passes over many windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ramp.core.cli import log
from ramp.models.block_runner import BlockRunner, Change, Read
from ramp.models.empty_model import empty_model, filled_model
from ramp.models.memory import StateRoom, free_bytes

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


WORKING_SHARE = 0.8
"""Share of a device's free memory that a whole model may take; the rest is left to activations and logits."""


def model_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Return the bytes of all parameters of a model in ``dtype``; a tied head counts once."""
    return sum(parameter.numel() for parameter in empty_model(config, dtype).parameters()) * dtype.itemsize


def fits(config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether a model in ``dtype`` fits whole on a device beside what it works with."""
    return model_bytes(config, dtype) <= WORKING_SHARE * free_bytes(device)


def open_model(
    config: PretrainedConfig, dtype: torch.dtype, device: torch.device, read: Read
) -> PreTrainedModel | StreamedModel:
    """Return the model of the parameters that ``read`` gives: whole where it fits, else streamed by block."""
    if fits(config, dtype, device):
        return filled_model(config, dtype, device, read)
    log.info("the model takes %.1f GB on %s: it is streamed by block", model_bytes(config, dtype) / 1e9, device)
    return StreamedModel(config, read, dtype=dtype, device=device)


class StreamedModel:
    """The model that ``filled_model`` makes of the same parameters: its hidden states, bit for bit on a processor.

    Each pass reads every block once and takes all windows through it. Memory: a block, the states of all windows
    (``ramp.models.memory``), and the output weight where it is asked for.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        read: Read,
        *,
        dtype: torch.dtype,
        device: torch.device,
        change: Change | None = None,
    ) -> None:
        self.config, self.dtype, self.device = config, dtype, device
        self._read, self._change = read, change
        self._head: nn.Parameter | None = None

    @classmethod
    def of(cls, runner: BlockRunner) -> StreamedModel:
        """Return the whole model of some blocks."""
        return cls(runner.config, runner.read, dtype=runner.dtype, device=runner.device, change=runner.change)

    def runner(self, length: int) -> BlockRunner:
        """Return the model's blocks for windows of ``length`` tokens."""
        return BlockRunner(self.config, self._read, length, device=self.device, dtype=self.dtype, change=self._change)

    @property
    def head(self) -> nn.Parameter:
        """The output weight [vocabulary, hidden]."""
        if self._head is None:
            self._head = self.runner(1).head()
        return self._head

    @torch.no_grad()
    def hidden_batches(self, windows: Tensor, parts: Iterable[slice]) -> Iterator[tuple[slice, Tensor]]:
        """Yield the hidden states after the final norm [batch, length, hidden] of each part of the windows.

        windows: int64 [count, length].
        """
        runner, room, parts = self.runner(windows.shape[1]), StateRoom(self.device), list(parts)
        states = [room.keep(runner.embedded(windows[part])) for part in parts]
        for layer in runner.layers:
            with runner.block(layer) as block:
                for x in states:
                    x.copy_(runner.run(block, x.to(self.device)))
        norm = runner.final_norm()
        for part in parts:
            yield part, norm(states.pop(0).to(self.device))
