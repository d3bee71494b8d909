"""Incumbents on held-out text: the float model's reference once, then an allocation of the bank at a time.

What was measured is kept in a journal beside the search's own, so that a killed run measures nothing twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.problem.problem import decode
from ramp.search.journal import read_journal

if TYPE_CHECKING:
    from torch import Tensor

Windows = list[dict[str, Any]]
"""Per window: ``window, tokens, nll, kl``; sums in nats, null where not finite."""


class Judge:
    """Scores allocations of one bank on held-out windows."""

    def __init__(
        self,
        model_dir: Path,
        bank_dir: Path,
        fold_file: Path | None,
        windows: Tensor,  # int64 (windows, length)
        journal: Path,
        *,
        device: str,
        dtype: str,
    ) -> None:
        from ramp.bank.bank import Bank
        from ramp.calibration.folding import folded_float_model, load_fold
        from ramp.evaluation.evaluate import make_reference
        from ramp.models.device import pick_device, pick_dtype
        from ramp.models.folder import read_config
        from ramp.scoring.divergence import head_weight

        self.bank, where = Bank(bank_dir), pick_device(device)
        fold = load_fold(fold_file, read_config(model_dir)) if fold_file else {}
        self.model = folded_float_model(model_dir, fold, pick_dtype(dtype, where), where)
        self.reference = make_reference(self.model, windows, {"model": model_dir.name, "text": "heldout"})
        self.head = head_weight(self.model).clone()  # folds and banks leave the head as it is
        self.journal = journal
        self.known: dict[str, Windows] = {entry["choice"]: entry["windows"] for entry in read_journal(journal)}

    def windows_of(self, choice: str) -> Windows:
        """Per-window sums of an allocation (``ramp.problem.problem.encode``)."""
        from ramp.core.files import finite
        from ramp.evaluation.evaluate import evaluate

        if choice not in self.known:
            self.bank.assemble(self.model, decode(choice))
            found = evaluate(self.model, self.reference, self.head)
            self.known[choice] = [{key: finite(value) for key, value in window.items()} for window in found]
            with open(self.journal, "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"choice": choice, "windows": self.known[choice]}) + "\n")
        return self.known[choice]

    def kl_of(self, choice: str) -> float | None:
        """Mean held-out KL of an allocation, nats per token; None where a window is not finite."""
        return mean_kl(self.windows_of(choice))


def mean_kl(windows: Windows) -> float | None:
    """Nats per token over windows; None where one is not finite."""
    if any(window["kl"] is None for window in windows):
        return None
    return float(np.sum([window["kl"] for window in windows]) / np.sum([window["tokens"] for window in windows]))
