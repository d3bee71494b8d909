"""Model, fold and bank that every kind of sensitivity is measured on, and the content of its file.

Arithmetic is float32 unless asked otherwise: bfloat16 alone moves the KL by about 1e-3 nats, more than most single
linears do. The model is streamed: one decoder block is in memory at a time.

A file is JSON: ``proxy`` (the kind), ``tokens`` (cost in forward tokens), ``windows`` (0 where no text was read),
``length``, ``bank_sha256`` (of the bank's weights), fields of single kinds (below), and ``linears`` {name: {width:
value}}, nats per token.

| kind | fields |
| --- | --- |
| ``fisher`` | ``estimator`` ("positions"), ``labels`` ("model"), ``seed`` |
| ``error`` | ``evaluations``, ``noise`` (relative sizes), ``seed``, ``coefficients`` {name: a_l} |
| ``error_plain``, ``kl``, ``kl_cheapest`` | ``evaluations`` |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ramp.bank.bank import Bank
from ramp.bank.with_model import open_bank
from ramp.calibration.folding import Fold
from ramp.calibration.stream import block_runner
from ramp.core.errors import RampError
from ramp.models.block_runner import BlockRunner, Change
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import check_windows


class SensitivityError(RampError):
    """Windows that score nothing, or a KL or gradient that is not finite."""


@dataclass(frozen=True)
class Setting:
    """A bank, the folded float model that it was built from, and the windows of text."""

    bank: Bank
    model: ModelFolder
    fold: Fold
    windows: Tensor  # int64 [count, length]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    seed: int = 0  # of every random draw

    @classmethod
    def open(cls, model_dir: Path, bank_dir: Path, fold: Path, windows: Tensor, **about: Any) -> Setting:
        """Open the bank and its float model; ``about``: the other fields.

        Raises ``BankError`` where bank, fold and model do not belong together, ``TextError``.
        """
        model = ModelFolder(model_dir)
        bank, scales = open_bank(bank_dir, model, fold)
        return cls(bank, model, scales, windows, **about)

    def runner(self, change: Change | None = None) -> BlockRunner:
        """Return the blocks of the folded float model; ``change`` changes a block's tensors after the fold."""
        check_windows(self.windows, self.model.config, least=2)
        found = block_runner(self.model, self.windows.shape[1], device=self.device, dtype=self.dtype, fold=self.fold)
        return found if change is None else found.changed(change)

    def report(self, kind: str, values: np.ndarray, tokens: int, **about: Any) -> dict[str, Any]:
        """Return the file's content from values [n, w], nats per token, and their cost in forward tokens."""
        count, length = self.windows.shape
        rows = zip(self.bank.linears, values.tolist(), strict=True)
        linears = {x.name: dict(zip(map(str, self.bank.widths), row, strict=True)) for x, row in rows}
        windows = count if tokens else 0
        made = {"proxy": kind, "tokens": tokens, "windows": windows, "length": length, "bank_sha256": self.bank.sha256}
        return {**made, "linears": linears, **about}

    def passes(self, evaluations: int) -> int:
        """Return the forward tokens of ``evaluations``, each counted as one whole pass, and of the float model's."""
        return (evaluations + 1) * self.windows.numel()
