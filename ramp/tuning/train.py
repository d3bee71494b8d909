"""The training of scales: Adam on the KL to the float model, window by window, from checkpoint to checkpoint.

As mlx-lm's DWQ does (github.com/ml-explore/mlx-lm, ``quant/dwq.py``). The weights of the last step are taken: the rate
has gone to zero by then, and no text chooses among steps.

Memory: the basis of every weight, the activations of one window with its logits, two float numbers per scale of Adam's,
and the float model's last hidden states of all windows that are read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.scoring.kl_divergence import final_hidden, head_weight
from ramp.tuning.resume import Progress, keep, resumed
from ramp.tuning.schedule import Schedule

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKPOINT_STEPS = 10
"""Steps between two checkpoints."""


class TuningError(RampError):
    """Training that diverged, or tuned scales that their format cannot hold."""


@dataclass(frozen=True)
class FloatTarget:
    """The float model on the windows that are read."""

    windows: Tensor  # int64 (windows, length)
    states: Tensor  # float32 (windows, length, hidden), after the final norm
    head: Tensor  # float32 (vocab, hidden)


def train(
    student: PreTrainedModel,
    changes: Sequence[nn.Parameter],
    target: FloatTarget,
    order: Tensor,
    schedule: Schedule,
    checkpoint: Path,
) -> Progress:
    """Train the ``changes`` of a student in place; return what it cost.

    order: int64 [steps, batch], windows of every step. checkpoint: file from which a killed run goes on; its name has
    to belong to the other arguments. Raises ``TuningError`` where a loss or a gradient is not finite.
    """
    optimizer = torch.optim.Adam(changes, lr=schedule.rate)
    done = resumed(checkpoint, changes, optimizer)
    earlier, began = done.wall_s, time.monotonic()
    report = max(schedule.steps // 10, 1)
    for step in range(len(done.losses), schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        optimizer.zero_grad()
        loss = add_gradients(student, target, order[step].tolist())
        if not math.isfinite(loss) or not all(
            bool(torch.isfinite(c.grad).all()) for c in changes if c.grad is not None
        ):
            raise TuningError(
                f"step {step + 1} of tuning gives a KL or a gradient that is not finite: the row or the float model "
                "is damaged, or the rate is too high"
            )
        optimizer.step()
        done.losses.append(loss)
        done.wall_s = earlier + time.monotonic() - began
        if (step + 1) % CHECKPOINT_STEPS == 0:
            keep(checkpoint, changes, optimizer, done)
        if (step + 1) % report == 0:
            recent = sum(done.losses[-report:]) / report
            log.info("step %d of %d: KL %.4f on training text", step + 1, schedule.steps, recent)
    return done


def add_gradients(student: PreTrainedModel, target: FloatTarget, batch: Sequence[int]) -> float:
    """Add the gradient of the mean KL over a batch of windows; return that KL, nats per token.

    At the logits it is q - p, so that the head needs no graph. Windows follow each other, so that the activations of
    one exist at a time.
    """
    with torch.enable_grad():
        head = head_weight(student)
    weight, device = head.detach(), head.device
    float_head = target.head.to(device)
    head_slopes, total = torch.zeros_like(weight) if head.requires_grad else None, 0.0
    tokens = len(batch) * target.windows.shape[1]
    for index in batch:
        with torch.enable_grad():
            hidden = final_hidden(student, target.windows[index : index + 1].to(device))[0]  # (length, hidden)
        states = hidden.detach()
        with torch.no_grad():
            q = torch.log_softmax(linear(states, weight), -1)  # (length, vocab)
            p = torch.log_softmax(linear(target.states[index].to(device), float_head), -1)
            chances = p.exp()
            total += float((chances * (p - q)).sum())
            difference = q.exp_().sub_(chances).div_(tokens)
            if head_slopes is not None:
                head_slopes += difference.T @ states
        hidden.backward(difference @ weight)
    if head_slopes is not None:
        head.backward(head_slopes)
    return total / tokens
