"""Prefix cache: a candidate that first differs at block k is recomputed from block k on.

The hidden states that enter a decoder block depend only on the embedding and on the blocks before it. They are kept
under the names of what those blocks hold, so a candidate starts at the end of the longest known prefix, whichever
allocation it comes from.

Scores equal those of the full pass, bit for bit on a processor: batches have the same shapes, and a block called with
the same states gives the same result. Earlier scores decide only how long a score takes, so a resumed search equals an
uninterrupted one.

The other arguments of the blocks (masks, positions, rotary embeddings, which may differ from block to block where only
some have a sliding window) are recorded from the family's own forward pass over the float model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from ramp.models.architecture import LinearSpec, architecture
from ramp.models.memory import free_bytes
from ramp.models.streamed_model import StreamedModel
from ramp.scoring.kl_divergence import EvaluationError, Scorer, batches, final_hidden
from ramp.scoring.score_type import Score

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

CPU_PREFIX_BYTES = 512 << 20
"""Hidden states kept per scorer on a processor: seven allocations' worth for 2,048 tokens of SmolLM2 in bfloat16."""

GPU_PREFIX_SHARE = 8
"""The same on a GPU whose memory nobody has shared out (``ramp.search.device_budget``): an eighth of what is free."""

PASSES = 2
"""Allocations whose prefixes must fit; where the blocks of so many do not, only every second, third ... is kept."""

Prefix = tuple[Hashable, ...]
States = dict[int, Tensor]
"""First window of a batch -> hidden states (batch, length, hidden)."""


class PrefixCache:
    """A cache of the hidden states that enter decoder blocks, under the names of what the blocks before them hold.

    ``limit_bytes`` bounds the kept states, ``state_bytes`` is the size of the states of all windows at one block. The
    least recently used entries go first.
    """

    def __init__(self, n_blocks: int, state_bytes: int, limit_bytes: int) -> None:
        self.room = limit_bytes // max(1, state_bytes)  # entries
        per_pass = self.room // PASSES
        stride = -(-(n_blocks - 1) // per_pass) if per_pass else n_blocks
        self.kept = range(max(1, stride), n_blocks, max(1, stride))
        """Blocks whose inputs are kept."""
        self._states: OrderedDict[Prefix, States] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    @property
    def nbytes(self) -> int:
        """Bytes of the states that are kept now."""
        return sum(x.nbytes for states in self._states.values() for x in states.values())

    def longest(self, names: Prefix) -> tuple[int, States | None]:
        """Return the last block whose input is known and that input; (0, None) where there is none.

        Every known prefix of ``names`` counts as used, shorter ones too: the next candidate may need them.
        """
        found: tuple[int, States | None] = (0, None)
        for block in self.kept:
            states = self._states.get(names[:block])
            if states is not None:
                self._states.move_to_end(names[:block])
                found = block, states
        return found

    def make_room(self, entries: int) -> None:
        """Forget entries until ``entries`` more fit."""
        while self._states and len(self._states) + entries > self.room:
            self._states.popitem(last=False)

    def add(self, names: Prefix, states: States) -> None:
        """Keep the states that enter block ``len(names)``."""
        if names not in self._states:
            self.make_room(1)
        self._states[names] = states

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()


class PrefixScorer(Scorer):
    """``Scorer`` that starts each candidate at the first block that differs from what it has scored before.

    Memory besides ``Scorer``'s: ``limit_bytes`` of hidden states, and those that enter the first block.
    """

    computed_blocks: int
    """Decoder blocks run by ``score`` so far, once for each batch of windows."""

    def __init__(self, float_model: PreTrainedModel, windows: Tensor, limit_bytes: int | None = None) -> None:
        """Start as ``Scorer``; keep up to ``limit_bytes`` of hidden states, None for the device's default."""
        config, parameter = float_model.config, next(float_model.parameters())
        self.n_blocks = int(config.num_hidden_layers)
        self.state_bytes = windows.numel() * int(config.hidden_size) * parameter.element_size()
        self.cache = PrefixCache(self.n_blocks, self.state_bytes, 0)
        self.computed_blocks = 0
        self._arch = architecture(config)
        self._model = float_model
        self._embedded: States = {}  # input of the first block: the embedding is not searched
        self._given: dict[int, list[Given]] = {}  # windows in a batch -> arguments of each block
        self._start, self._fresh = (0, self._embedded), dict[int, States]()
        self._observing = True
        super().__init__(float_model, windows)
        self._observing = False
        if limit_bytes is None:
            on_gpu = self.device.type != "cpu"
            limit_bytes = free_bytes(self.device) // GPU_PREFIX_SHARE if on_gpu else CPU_PREFIX_BYTES
        self.keep(limit_bytes)

    def keep(self, limit_bytes: int) -> None:
        """Keep up to ``limit_bytes`` of hidden states from now on, none of those before."""
        self.cache = PrefixCache(self.n_blocks, self.state_bytes, limit_bytes)

    def allocations_bytes(self, count: int) -> int:
        """Return the bytes of the states that enter every block but the first, for ``count`` allocations."""
        return count * (self.n_blocks - 1) * self.state_bytes

    @torch.inference_mode()
    def score(self, model: PreTrainedModel, blocks: Sequence[Hashable] | None = None) -> Score:
        """Score as ``Scorer.score``, from the first decoder block whose input is not known.

        Args:
            model: the candidate. Prefixes are kept as long as candidates are written into one and the same model;
                another one empties the cache. Its embedding is the float model's.
            blocks: per decoder block, a name of what it holds. Equal names must mean equal weights for as long as
                this scorer lives (``block_names`` makes them of an allocation). None: the candidate is run in full,
                and nothing of it is kept.
        """
        if blocks is not None and len(blocks) != self.n_blocks:
            raise EvaluationError(f"{len(blocks)} names of blocks for a model of {self.n_blocks}: give one for each")
        if model is not self._model:
            self.cache.clear()
            self._model = model
        names = () if blocks is None else tuple(blocks)
        if blocks is not None:
            block, states = self.cache.longest(names)
            self._start = (block, self._embedded if states is None else states)
            self._fresh = {kept: {} for kept in self.cache.kept if kept > block}
            self.cache.make_room(len(self._fresh))  # before the pass, so that the limit holds during it
        try:
            found = super().score(model)
            for block, states in self._fresh.items():
                self.cache.add(names[:block], states)
        finally:
            self._start, self._fresh = (0, self._embedded), {}
        return found

    def _hidden_batches(self, model: PreTrainedModel | StreamedModel) -> Iterator[tuple[slice, Tensor]]:
        if isinstance(model, StreamedModel):
            raise EvaluationError("a prefix needs the whole model: score a streamed one with Scorer")
        return ((part, self._final_hidden(model, part)) for part in batches(self.windows, self.device))

    def _final_hidden(self, model: PreTrainedModel, part: slice) -> Tensor:
        if self._observing:
            return self._observe(model, part)
        first, states = self._start
        hidden = states[part.start]  # (batch, length, hidden)
        given = self._given[len(hidden)]
        for layer, block in enumerate(self._blocks(model)[first:], start=first):
            if layer in self._fresh:
                self._fresh[layer][part.start] = hidden
            out = block(hidden, *given[layer].positional, **given[layer].named)
            hidden = out[0] if isinstance(out, tuple) else out
            self.computed_blocks += 1
        return model.get_submodule(self._arch.final_norm)(hidden)

    def _blocks(self, model: PreTrainedModel) -> list[Any]:
        return list(cast("nn.ModuleList", model.get_submodule(self._arch.blocks)))

    def _observe(self, model: PreTrainedModel, part: slice) -> Tensor:
        """Run the family's own forward pass and record the arguments of each block."""
        seen: list[Given] = []

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not seen:
                self._embedded[part.start] = args[0]
            seen.append(Given(args[1:], dict(kwargs)))

        handles = [block.register_forward_pre_hook(hook, with_kwargs=True) for block in self._blocks(model)]
        try:
            hidden = final_hidden(model, self.windows[part])
        finally:
            for handle in handles:
                handle.remove()
        self._given[len(hidden)] = seen  # masks and positions depend on the shape alone
        return hidden


class Given(NamedTuple):
    """Arguments of a decoder block besides the hidden states."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


def block_names(linears: Sequence[LinearSpec], choice: np.ndarray | Sequence[int]) -> list[tuple[int, ...]]:
    """Return a name per decoder block under an allocation, int [n] in the order of ``linears``: the choices in it."""
    names: dict[int, list[int]] = {}
    for linear, index in zip(linears, choice, strict=True):
        names.setdefault(linear.layer, []).append(int(index))
    return [tuple(names[layer]) for layer in sorted(names)]
