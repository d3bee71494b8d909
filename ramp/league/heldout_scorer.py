"""Score allocations on held-out text: the float model's reference once, then one allocation of the bank at a time.

Scores are kept in a journal with the search's own, so that a killed run scores nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.core.atomic_files import finite
from ramp.problem.banked_model import BankedModel
from ramp.problem.problem import decode
from ramp.search.journal import Journal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Windows = list[dict[str, Any]]
"""Per window: ``window, tokens, nll, kl``; sums in nats, null where not finite."""


@dataclass(frozen=True)
class ScoredChoice:
    """A line of the journal."""

    choice: str  # an allocation (``ramp.problem.problem.encode``)
    windows: Windows


class HeldoutScorer:
    """Scores allocations of one bank on held-out windows, int64 (windows, length), in a model of its own."""

    def __init__(
        self, banked: BankedModel, windows: Tensor, journal: Path, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        from ramp.evaluation.heldout import make_reference
        from ramp.scoring.kl_divergence import head_weight

        self.bank, self.model = banked.bank, banked.float_model(dtype, device)
        self.reference = make_reference(self.model, windows, {"model": banked.name, "text": "heldout"})
        self.head = head_weight(self.model).clone()  # folds and banks leave the head as it is
        self.journal = Journal(journal, ScoredChoice)
        self.known: dict[str, Windows] = {entry.choice: entry.windows for entry in self.journal.read()}

    def windows_of(self, choice: str) -> Windows:
        """Return the sums per window of an allocation (``ramp.problem.problem.encode``)."""
        from ramp.evaluation.heldout import evaluate

        if choice not in self.known:
            self.bank.assemble(self.model, decode(choice))
            found = evaluate(self.model, self.reference, self.head)
            self.known[choice] = [{key: finite(value) for key, value in window.items()} for window in found]
            self.journal.append({"choice": choice, "windows": self.known[choice]})
        return self.known[choice]

    def kl_of(self, choice: str) -> float | None:
        """Return the mean held-out KL of an allocation, nats per token; None where a window is not finite."""
        windows = self.windows_of(choice)
        if any(window["kl"] is None for window in windows):
            return None
        return float(np.sum([window["kl"] for window in windows]) / np.sum([window["tokens"] for window in windows]))
