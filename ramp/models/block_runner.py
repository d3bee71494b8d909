"""Decoder blocks of a model that is never whole in memory: loaded one at a time, and run on hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ramp.models.architecture import ModelError, architecture
from ramp.models.empty_model import empty_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

Read = Callable[[str], Tensor]
"""Checkpoint name of a parameter -> its values, any float dtype, on any device."""

Change = Callable[[dict[str, Tensor]], None]
"""Changes the tensors of one block, by checkpoint name, in place of the dictionary: a fold."""


def load_block(
    skeleton: PreTrainedModel,
    read: Read,
    layer: int,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    change: Change | None = None,
) -> nn.Module:
    """Give one block of a skeleton its weights, changed in float32 or wider and then stored as ``dtype``.

    They cross to the device as they are stored and are converted there. Raises ``ModelError`` for a tensor that the
    block has and the checkpoint lacks, or that has another shape.
    """
    path = f"{architecture(skeleton.config).blocks}.{layer}"
    block, device = skeleton.get_submodule(path), torch.device(device)
    wide = torch.promote_types(dtype, torch.float32) if change else dtype
    state: dict[str, Tensor] = {}
    for name, parameter in block.state_dict().items():
        value = read(f"{path}.{name}")
        if value.shape != parameter.shape:
            raise ModelError(
                f"{path}.{name} is {list(value.shape)}, the model's configuration says {list(parameter.shape)}"
            )
        state[f"{path}.{name}"] = value.to(device).to(wide)
    if change:
        change(state)
    # On a processor a copy in every case: a checkpoint is memory-mapped, and callers write into these weights.
    own = {name.removeprefix(f"{path}."): state.pop(name).to(dtype, copy=device.type == "cpu") for name in list(state)}
    block.load_state_dict(own, assign=True)
    return block.requires_grad_(False)


class BlockRunner:
    """Decoder blocks, embedding, final norm and head of a model, each loaded when it is needed and freed after use.

    Full causal attention inside each window of ``length`` tokens. Raises ``ModelError`` for windows beyond the model's
    sliding attention window.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        read: Read,
        length: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        change: Change | None = None,
    ) -> None:
        self.config, self.device, self.dtype = config, torch.device(device), dtype
        self.arch = architecture(config)
        self.read, self.change, self._length = read, change, length
        sliding = getattr(config, "sliding_window", None)
        if sliding is not None and length > sliding:
            raise ModelError(
                f"windows of {length} tokens exceed the model's sliding attention window of {sliding}: shorten --length"
            )
        self.skeleton = empty_model(config, dtype)
        self._positions = torch.arange(length, device=device).unsqueeze(0)  # (1, length)
        rotary: Any = self.skeleton.get_submodule(f"{self.arch.blocks.rpartition('.')[0]}.rotary_emb").to(device)
        self._rotary = rotary(torch.empty(0, dtype=dtype, device=device), self._positions)  # (1, length, head_dim) each

    def changed(self, change: Change) -> BlockRunner:
        """Return a runner whose blocks are changed once more."""
        before = self.change

        def both(state: dict[str, Tensor]) -> None:
            if before:
                before(state)
            change(state)

        return BlockRunner(self.config, self.read, self._length, device=self.device, dtype=self.dtype, change=both)

    @property
    def layers(self) -> range:
        """Numbers of the decoder blocks."""
        return range(int(self.config.num_hidden_layers))

    def _parameter(self, name: str, device: torch.device | str) -> nn.Parameter:
        return nn.Parameter(self.read(name).to(device).to(self.dtype), requires_grad=False)

    def embedded(self, windows: Tensor) -> Tensor:
        """Return the inputs of the first block [count, length, hidden], in the runner's dtype, on the host.

        The table is looked up as it is stored, and never converted.
        """
        return nn.functional.embedding(windows.cpu(), self.read(f"{self.arch.embed}.weight").cpu()).to(self.dtype)

    def final_norm(self) -> nn.Module:
        """Return the norm before the head."""
        norm = self.skeleton.get_submodule(self.arch.final_norm)
        norm.weight = self._parameter(f"{self.arch.final_norm}.weight", self.device)
        return norm

    def head(self) -> nn.Parameter:
        """Return the output weight [vocabulary, hidden]: the embedding where the configuration ties them."""
        path = self.arch.embed if self.config.tie_word_embeddings else self.arch.head
        return self._parameter(f"{path}.weight", self.device)

    @contextmanager
    def block(self, layer: int) -> Iterator[nn.Module]:
        """Load a block's weights, and free them at the end."""
        block = load_block(self.skeleton, self.read, layer, device=self.device, dtype=self.dtype, change=self.change)
        try:
            yield block
        finally:
            block.to_empty(device="meta")

    def linears(self, block: nn.Module) -> dict[str, Any]:
        """Return the linears of a loaded block by role."""
        return {role: block.get_submodule(path) for role, path in self.arch.linears}

    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        """Return a block's outputs [count, length, hidden] for its inputs."""
        # no mask: SDPA's own causal path, which equals the sliding one for windows that fit
        out = block(x, attention_mask=None, position_ids=self._positions, position_embeddings=self._rotary)
        return out[0] if isinstance(out, tuple) else out
