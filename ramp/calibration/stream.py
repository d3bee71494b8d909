"""Calibration, streamed: one decoder block in memory at a time, never the model.

``stream`` carries the hidden states of all calibration windows from block to block. Each block is read from the
checkpoint, optionally folded, handed to a visitor that may measure it and replace its weights in place, run as
it then is, and freed. Peak memory is one block plus the hidden states (which stay on the host; on a GPU there
is one block and one batch).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ramp.calibration.block import BlockVisit, CalibrationError
from ramp.calibration.folding import Fold, apply_fold
from ramp.models.architecture import LinearSpec, architecture
from ramp.models.empty_model import empty_model
from ramp.models.folder import CheckpointReader, ModelFolder
from ramp.models.token_windows import check_windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger("ramp.calibration.stream")


def load_block(
    skeleton: PreTrainedModel,
    reader: CheckpointReader,
    layer: int,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    fold: Fold | None = None,
) -> nn.Module:
    """Give one block of a skeleton its weights, folded in float32 or wider and then stored as ``dtype``.

    Raises ``ModelError`` for a tensor that the block has and the checkpoint lacks, ``FoldingError``.
    """
    path = f"{architecture(skeleton.config).blocks}.{layer}"
    block = skeleton.get_submodule(path)
    wide = torch.promote_types(dtype, torch.float32) if fold else dtype
    state = {f"{path}.{name}": reader.get(f"{path}.{name}").to(wide) for name in block.state_dict()}
    if fold:
        apply_fold(state, fold, skeleton.config)
    # A copy in every case: the checkpoint is memory-mapped, and visitors write into these weights.
    own = {name.removeprefix(f"{path}."): t.to(device=device, dtype=dtype, copy=True) for name, t in state.items()}
    block.load_state_dict(own, assign=True)
    return block.requires_grad_(False)


class BlockRunner:
    """Decoder blocks of a checkpoint, loaded one at a time, in float32, and run on hidden states.

    Full causal attention inside each window of ``length`` tokens. Raises ``CalibrationError`` for windows beyond the
    model's sliding attention window, ``ModelError`` for a checkpoint that lacks a linear.
    """

    def __init__(
        self, model: ModelFolder, length: int, *, device: torch.device | str, fold: Fold | None = None
    ) -> None:
        model.check()
        self.model, self.device, self._fold = model, device, fold
        arch = model.architecture
        sliding = getattr(model.config, "sliding_window", None)
        if sliding is not None and length > sliding:
            raise CalibrationError(
                f"windows of {length} tokens exceed the model's sliding attention window of {sliding}: shorten --length"
            )
        self.skeleton = empty_model(model.config, torch.float32)
        self._positions = torch.arange(length, device=device).unsqueeze(0)  # (1, length)
        rotary: Any = self.skeleton.get_submodule(f"{arch.blocks.rpartition('.')[0]}.rotary_emb").to(device)
        self._rotary = rotary(torch.empty(0, device=device), self._positions)  # (1, length, head_dim) each

    def embedded(self, windows: Tensor) -> Tensor:
        """Return the inputs of the first block, float32 [count, length, hidden], on the host."""
        arch = self.model.architecture
        embed = self.skeleton.get_submodule(arch.embed)
        embed.load_state_dict({"weight": self.model.reader.get(f"{arch.embed}.weight")}, assign=True)
        hidden = embed(windows.cpu()).float()
        embed.to("meta")
        return hidden

    def load(self, layer: int) -> tuple[nn.Module, dict[str, Any]]:
        """Return a block with its weights, and its linears by role; ``free`` it after use."""
        block = load_block(
            self.skeleton, self.model.reader, layer, device=self.device, dtype=torch.float32, fold=self._fold
        )
        return block, {role: block.get_submodule(path) for role, path in self.model.architecture.linears}

    def run(self, block: nn.Module, x: Tensor) -> Tensor:
        """Return a block's outputs [count, length, hidden] for its inputs."""
        # no mask: SDPA's own causal path, which equals the sliding one for windows that fit
        out = block(x, attention_mask=None, position_ids=self._positions, position_embeddings=self._rotary)
        return out[0] if isinstance(out, tuple) else out

    @staticmethod
    def free(block: nn.Module) -> None:
        """Release a block's weights."""
        block.to_empty(device="meta")


@torch.no_grad()
def stream(
    model_dir: str | Path,
    windows: Tensor,
    visit: Callable[[BlockVisit], None],
    *,
    device: torch.device | str,
    fold: Fold | None = None,
    batch: int = 4,
    result: Callable[[Tensor], None] | None = None,
    label: str = "",
) -> None:
    """Visit the decoder blocks in order, in float32, each with the outputs of its predecessors as they were left.

    windows: int64 [count, length], full causal attention inside each window. ``visit`` may replace weights
    (``BlockVisit.replace`` and nothing else); the block then runs with them. ``result`` gets the last block's outputs
    [count, length, hidden] (before the final norm). ``label`` names the pass in the log. Raises ``CalibrationError``
    and ``ModelError``.
    """
    model = ModelFolder(model_dir)
    check_windows(windows, model.config)
    runner = BlockRunner(model, windows.shape[1], device=device, fold=fold)
    hidden = runner.embedded(windows)

    for layer in progress(model.config.num_hidden_layers, label):
        block, modules = runner.load(layer)
        specs = {linear.role: linear for linear in model.linears if linear.layer == layer}

        def run(x: Tensor, block: nn.Module = block) -> Tensor:
            return runner.run(block, x)

        def batches() -> Iterable[Tensor]:
            return (part.to(device) for part in hidden.split(batch))

        visited = BlockVisit(block, modules, specs, batches, run, hidden.nbytes)
        visit(visited)
        visited.log_notes()
        if visited.outputs is not None:
            hidden.copy_(visited.outputs)
        else:
            for start in range(0, len(hidden), batch):  # in place: one buffer for the whole pass
                hidden[start : start + batch] = run(hidden[start : start + batch].to(device)).to("cpu")
        del visited  # and the block's statistics with it
        if not bool(torch.isfinite(hidden).all()):
            raise CalibrationError(
                f"the outputs of {model.architecture.blocks}.{layer} are NaN or infinite on the calibration text: "
                "check the checkpoint and what replaced its weights"
            )
        runner.free(block)
    if result is not None:
        result(hidden)


@torch.no_grad()
def each_block(
    model_dir: str | Path, *, device: torch.device | str, fold: Fold | None = None
) -> Iterator[tuple[nn.Module, dict[LinearSpec, nn.Linear]]]:
    """Yield the decoder blocks in order, in float32, each with its linears, one in memory at a time: no activations."""
    model = ModelFolder(model_dir)
    model.check()
    skeleton = empty_model(model.config, torch.float32)
    for layer in range(model.config.num_hidden_layers):
        block = load_block(skeleton, model.reader, layer, device=device, dtype=torch.float32, fold=fold)
        found: dict[LinearSpec, Any] = {x: skeleton.get_submodule(x.name) for x in model.linears if x.layer == layer}
        yield block, found
        block.to_empty(device="meta")


def progress(n_blocks: int, label: str = "") -> Iterable[int]:
    """Yield block numbers, with a bar on a terminal and a few log lines otherwise, under the pass's name."""
    from tqdm import tqdm

    watched = sys.stderr.isatty()
    for layer in tqdm(range(n_blocks), desc=label or None, unit="block", disable=not watched):
        yield layer
        if not watched and (layer + 1) * 4 // n_blocks > layer * 4 // n_blocks:
            log.info("%sblock %d of %d", f"{label}: " if label else "", layer + 1, n_blocks)
