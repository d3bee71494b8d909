"""Scales tuned by KL to the float model, codes frozen: the float16 scales of ggml blocks and the norms' gains.

As mlx-lm's DWQ does (github.com/ml-explore/mlx-lm, ``quant/dwq.py``): the codes, sub-scales and sub-minima stay, so the
file's size and format do too. Every trained number x is kept as x0 (1 + e), e from 0, by Adam with a warm-up and a
cosine to zero, so that steps of e mean the same for scales of all sizes. The result is rounded to float16 at the end.

Memory: some eight times the float32 model (seen once, on SmolLM2): beside it lie the basis of the scales, twice where a
type has minima, and the weights and gradients of a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.parametrize import register_parametrization

from ramp.core.cli import log
from ramp.core.files import atomic_path
from ramp.ggml.scales import PLACES, BlockScales, ScaleError
from ramp.ggml.units import Unit
from ramp.gguf.names import from_gguf_rows, gguf_tensors, to_gguf_rows
from ramp.models.folder import ModelFolder
from ramp.scoring.kl_divergence import final_hidden, head_weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel


CHECKPOINT_STEPS = 10
"""Steps between two checkpoints."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    steps: int = 60
    batch: int = 4  # windows per step
    rate: float = 1e-3  # largest step of e
    warmup: int = 10  # steps
    seed: int = 0  # of the order of windows

    def rate_at(self, step: int) -> float:
        """Return the rate of a step, from 0."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.rate * 0.5 * (1 + math.cos(math.pi * done))


class _Weight(torch.autograd.Function):
    """sum_s scales * basis, whose gradient keeps nothing but the basis."""

    @staticmethod
    def forward(ctx: Any, scales: Tensor, basis: Tensor) -> Tensor:
        """scales [rows, s, blocks], basis [rows, s, blocks, block]; returns [rows, blocks * block]."""
        ctx.save_for_backward(basis)
        weight = scales[:, 0, :, None] * basis[:, 0]
        for index in range(1, basis.shape[1]):
            weight.addcmul_(scales[:, index, :, None], basis[:, index])
        return weight.flatten(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the scales."""
        (basis,) = ctx.saved_tensors
        slopes = gradients[0].view(len(basis), *basis.shape[2:])
        return torch.stack([(slopes * basis[:, s]).sum(-1) for s in range(basis.shape[1])], 1), None


class TunedScales(nn.Module):
    """The weight of one tensor as a function of its scales: a parametrization of a module's ``weight``."""

    start: Tensor
    change: nn.Parameter

    def __init__(self, blocks: BlockScales, heads: int) -> None:
        super().__init__()
        self.blocks, self.heads = blocks, heads
        self.start = torch.from_numpy(_rows(blocks.scales, heads))
        self.basis = torch.from_numpy(_rows(blocks.basis, heads))
        self.change = nn.Parameter(torch.zeros_like(self.start))

    def forward(self, _: Tensor) -> Tensor:
        """Return the weight [rows, columns] in the checkpoint's order of rows."""
        weight: Tensor = _Weight.apply(self.start * (1 + self.change), self.basis)
        return weight

    def packed(self) -> np.ndarray:
        """Return the tensor's bytes with the tuned scales."""
        scales = (self.start * (1 + self.change.detach())).numpy()
        return self.blocks.packed(to_gguf_rows(scales, self.heads))


def _rows(values: np.ndarray, heads: int) -> np.ndarray:
    return np.ascontiguousarray(from_gguf_rows(values, heads))


class TunedGain(nn.Module):
    """A norm's gain as a function of its change."""

    start: Tensor
    change: nn.Parameter

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.start = gain.detach().clone()
        self.change = nn.Parameter(torch.zeros_like(self.start))

    def forward(self, _: Tensor) -> Tensor:
        """Return the gain."""
        return self.start * (1 + self.change)


@dataclass(frozen=True)
class ChangedTensors:
    """Tensors of a file whose scales or gains are not the quantizer's own: fitted again, or tuned."""

    packed: dict[str, np.ndarray]  # tensor -> bytes uint8 [rows, row bytes]
    gains: dict[str, np.ndarray]  # tensor of a norm -> float32 [hidden]
    losses: list[float]  # KL of each step's batch, nats per token; empty where nothing was tuned

    def save(self, path: Path) -> None:
        """Write it as a safetensors file."""
        arrays = {f"packed/{name}": value for name, value in self.packed.items()}
        arrays |= {f"gain/{name}": value for name, value in self.gains.items()}
        with atomic_path(path) as partial:
            save_file(arrays | {"losses": np.array(self.losses)}, partial)

    @classmethod
    def load(cls, path: Path) -> ChangedTensors:
        """Read what ``save`` wrote; ``ScaleError`` for a damaged file."""
        try:
            arrays = load_file(path)
            losses = arrays.pop("losses").tolist()
        except (SafetensorError, KeyError) as error:
            raise ScaleError(f"{path} is damaged ({error}): delete it and run again") from None
        kinds: dict[str, dict[str, np.ndarray]] = {"packed": {}, "gain": {}}
        for name, value in arrays.items():
            kind, _, tensor = name.partition("/")
            kinds[kind][tensor] = value
        return cls(kinds["packed"], kinds["gain"], losses)


def tune(
    model: ModelFolder,
    units: list[Unit],
    types: Mapping[str, str],
    packed: Mapping[str, np.ndarray],
    windows: Tensor,
    schedule: Schedule,
    checkpoint: Path,
) -> ChangedTensors:
    """Return tuned scales and gains.

    packed: bytes of every unit's tensor, which training starts from; a unit whose type has no scales (F16) is held as
    it is. windows: int64 [count, length] of calibration or training text. checkpoint: file from which a killed run goes
    on; its name has to belong to the other arguments.
    """
    loaded = model.load_float()
    float_head = head_weight(loaded).detach().clone()  # (vocab, hidden)
    with torch.no_grad():
        targets = torch.cat([final_hidden(loaded, part) for part in windows.split(schedule.batch)])
    scales, gains = _parametrize(loaded, model, units, types, packed)
    changes: list[nn.Parameter] = [x.change for x in scales.values()] + [x.change for x in gains.values()]
    optimizer = torch.optim.Adam(changes, lr=schedule.rate)
    losses: list[float] = []
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        for change, value in zip(changes, state["changes"], strict=True):
            change.data.copy_(value)
        losses = state["losses"]
    generator = torch.Generator().manual_seed(schedule.seed)
    for step in range(schedule.steps):
        chosen = torch.randperm(len(windows), generator=generator)[: schedule.batch]
        if step < len(losses):
            continue
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        optimizer.zero_grad()
        losses.append(_backward(loaded, windows[chosen], targets[chosen], float_head))
        optimizer.step()
        if (step + 1) % CHECKPOINT_STEPS == 0:
            kept = {"optimizer": optimizer.state_dict(), "changes": [c.data for c in changes], "losses": losses}
            with atomic_path(checkpoint) as partial:
                torch.save(kept, partial)
        if (step + 1) % max(schedule.steps // 10, 1) == 0:
            recent = losses[-max(schedule.steps // 10, 1) :]
            log.info("step %d of %d: KL %.4f on training text", step + 1, schedule.steps, sum(recent) / len(recent))
    return ChangedTensors(
        {name: each.packed() for name, each in scales.items()},
        {name: (each.start * (1 + each.change.detach())).numpy() for name, each in gains.items()},
        losses,
    )


def _parametrize(
    loaded: PreTrainedModel,
    model: ModelFolder,
    units: list[Unit],
    types: Mapping[str, str],
    packed: Mapping[str, np.ndarray],
) -> tuple[dict[str, TunedScales], dict[str, TunedGain]]:
    """Let the weights of a model follow from scales, its norms from gains; a tied head follows the embedding's."""
    scales: dict[str, TunedScales] = {}
    gains: dict[str, TunedGain] = {}

    def replace(path: str, by: nn.Module) -> None:
        register_parametrization(loaded.get_submodule(path), "weight", by, unsafe=True)

    for unit in units:
        path = unit.tensor.source.removesuffix(".weight")
        if types[unit.name] not in PLACES:
            continue
        scales[unit.name] = TunedScales(BlockScales(packed[unit.name], types[unit.name]), unit.tensor.heads)
        replace(path, scales[unit.name])
        if unit.tensor.kind == "embedding" and model.tied:
            replace(model.architecture.head, scales[unit.name])
    for tensor in gguf_tensors(model.config):
        if tensor.kind == "norm":
            path = tensor.source.removesuffix(".weight")
            gains[tensor.name] = TunedGain(cast("Tensor", loaded.get_submodule(path).weight))
            replace(path, gains[tensor.name])
    return scales, gains


def _backward(loaded: PreTrainedModel, windows: Tensor, targets: Tensor, float_head: Tensor) -> float:
    """Add the gradient of the mean KL of a batch; return that KL, nats per token.

    At the logits it is q - p, so that the head needs no graph: its products are made window by window.
    """
    with torch.enable_grad():
        hidden = final_hidden(loaded, windows)
        head = head_weight(loaded)
    states, weight = hidden.detach(), head.detach()
    slopes, head_slopes, total = torch.empty_like(states), torch.zeros_like(weight), 0.0
    tokens = windows.numel()
    with torch.no_grad():
        for index, float_states in enumerate(targets):
            q = torch.log_softmax(linear(states[index], weight), -1)
            p = torch.log_softmax(linear(float_states, float_head), -1)
            chances = p.exp()
            total += float((chances * (p - q)).sum())
            difference = q.exp_().sub_(chances).div_(tokens)  # (length, vocab)
            slopes[index] = difference @ weight
            head_slopes += difference.T @ states[index]
    tensors, gradients = [hidden], [slopes]
    if head.requires_grad:
        tensors, gradients = [hidden, head], [slopes, head_slopes]
    torch.autograd.backward(tensors, gradients)
    return total / tokens
