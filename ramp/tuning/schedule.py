"""Schedule of training scales: steps, learning rate and text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ramp.core.errors import RampError
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import TextError, read_documents

if TYPE_CHECKING:
    from torch import Tensor

TRAINING_ROLES = ("calibration", "train")
"""Roles of texts that may train scales; all others judge."""


class ScheduleError(RampError):
    """A schedule that trains nothing."""


@dataclass(frozen=True)
class Schedule:
    """A warm-up and a cosine to zero, over windows that are drawn without repetition while there are new ones."""

    steps: int = 60
    batch: int = 4  # windows per step
    length: int = 256  # tokens per window
    rate: float = 1e-3  # largest step of a relative change
    warmup: int = 10  # steps; a tenth of a short schedule
    seed: int = 0  # of the order of windows

    def __post_init__(self) -> None:
        """Raise ``ScheduleError`` for numbers that train nothing."""
        if min(self.steps, self.batch, self.length) < 1 or not 0 < self.rate < 1 or self.warmup < 0 or self.seed < 0:
            raise ScheduleError(
                f"{self.steps} steps of {self.batch} windows of {self.length} tokens at rate {self.rate} (warm-up "
                f"{self.warmup}, seed {self.seed}) train nothing: steps, batch and length are at least 1, the rate is "
                "above 0 and below 1"
            )

    def rate_at(self, step: int) -> float:
        """Return the rate of a step, from 0."""
        warmup = min(self.warmup, self.steps // 10 + 1)
        if step < warmup:
            return self.rate * (step + 1) / warmup
        done = (step - warmup) / max(self.steps - warmup, 1)
        return self.rate * 0.5 * (1 + math.cos(math.pi * done))

    def drawn(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the windows that are read, int64 [n, length], and which of them each step reads, [steps, batch]."""
        import torch

        generator, needed = torch.Generator().manual_seed(self.seed), self.steps * self.batch
        rounds = -(-needed // len(windows))
        order = torch.cat([torch.randperm(len(windows), generator=generator) for _ in range(rounds)])[:needed]
        used, places = torch.unique(order, return_inverse=True)
        return windows[used], places.view(self.steps, self.batch)


def training_windows(model: ModelFolder, texts: Sequence[Path], length: int) -> Tensor:
    """Return all windows of some texts, int64 [count, length], no longer than the model's context."""
    import torch

    return torch.cat([model.windows(text, length=length, count=None) for text in texts])


def refuse_judges(texts: Sequence[Path]) -> None:
    """Raise ``TextError`` for a text that is named after a role that judges, or has a document of one that lies beside.

    Beside: in its folder, as ``ramp.assets.text_roles`` writes the roles of a study.
    """
    for path in texts:
        judges = [other for other in sorted(path.parent.glob("*.jsonl")) if other.stem not in TRAINING_ROLES]
        own = {document.sha256 for document in read_documents(path)}
        for judge in judges:
            if judge == path or own & {document.sha256 for document in read_documents(judge)}:
                raise TextError(
                    f"{path} holds text of role '{judge.stem}': scales are trained on {TRAINING_ROLES[0]}.jsonl and "
                    f"{TRAINING_ROLES[1]}.jsonl alone, all other text chooses or judges"
                )
