"""Calibration, streamed: one decoder block in memory at a time, never the model.

``stream`` carries the hidden states of all calibration windows from block to block. Each block is read from the
checkpoint, optionally folded, handed to a visitor that may measure it and replace its weights in place, run as
it then is, and freed. Peak memory is one block plus the hidden states, which stay on a GPU where they fit and else in
pinned memory of the host.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ramp.calibration.block import BlockVisit, CalibrationError
from ramp.calibration.folding import Fold, folding
from ramp.models.architecture import LinearSpec
from ramp.models.block_runner import BlockRunner
from ramp.models.folder import ModelFolder
from ramp.models.memory import StateRoom, all_finite
from ramp.models.token_windows import check_windows

log = logging.getLogger("ramp.calibration.stream")


def block_runner(
    model: ModelFolder,
    length: int,
    *,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    fold: Fold | None = None,
) -> BlockRunner:
    """Return the decoder blocks of a checkpoint folder, with a fold in their weights, for windows of ``length`` tokens.

    Raises ``ModelError`` for a checkpoint that lacks a linear and for windows beyond the model's sliding attention.
    """
    model.check()
    change = folding(fold, model.config)
    return BlockRunner(model.config, model.reader.get, length, device=device, dtype=dtype, change=change)


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
    runner = block_runner(model, windows.shape[1], device=device, fold=fold)
    embedded = runner.embedded(windows)
    room = StateRoom(device)
    hidden = embedded if runner.device.type == "cpu" else room.keep(embedded)
    del embedded

    for layer in progress(len(runner.layers), label):
        specs = {linear.role: linear for linear in model.linears if linear.layer == layer}
        with runner.block(layer) as block:

            def run(x: Tensor, block: nn.Module = block) -> Tensor:
                return runner.run(block, x)

            def batches() -> Iterable[Tensor]:
                return (part.to(device) for part in hidden.split(batch))

            visited = BlockVisit(block, runner.linears(block), specs, batches, run, hidden)
            visit(visited)
            visited.log_notes()
            finite = torch.ones((), dtype=torch.bool, device=device)
            # in place: one buffer for the whole pass
            outputs = (run(x) for x in batches()) if visited.outputs is None else iter(visited.outputs.split(batch))
            for into, x in zip(hidden.split(batch), outputs, strict=True):
                finite = finite & all_finite(x).to(device)
                into.copy_(x)
            del visited, outputs  # and the block's statistics with it
        if not bool(finite):
            raise CalibrationError(
                f"the outputs of {runner.arch.blocks}.{layer} are NaN or infinite on the calibration text: "
                "check the checkpoint and what replaced its weights"
            )
    if result is not None:
        result(hidden.cpu())


@torch.no_grad()
def each_block(
    model_dir: str | Path, *, device: torch.device | str, fold: Fold | None = None
) -> Iterator[tuple[nn.Module, dict[LinearSpec, nn.Linear]]]:
    """Yield the decoder blocks in order, in float32, each with its linears, one in memory at a time: no activations."""
    model = ModelFolder(model_dir)
    runner = block_runner(model, 1, device=device, fold=fold)
    for layer in runner.layers:
        with runner.block(layer) as block:
            roles = runner.linears(block)
            yield block, {x: roles[x.role] for x in model.linears if x.layer == layer}


def progress(n_blocks: int, label: str = "") -> Iterable[int]:
    """Yield block numbers, with a bar on a terminal and a few log lines otherwise, under the pass's name."""
    from tqdm import tqdm

    watched = sys.stderr.isatty()
    for layer in tqdm(range(n_blocks), desc=label or None, unit="block", disable=not watched):
        yield layer
        if not watched and (layer + 1) * 4 // n_blocks > layer * 4 // n_blocks:
            log.info("%sblock %d of %d", f"{label}: " if label else "", layer + 1, n_blocks)
