"""A model opened for allocation, once for every stage: its folder, its bank, its fold and its statistics."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.models.folder import ModelFolder
from ramp.problem.budget import budget_bytes
from ramp.problem.features import read_stats, static_features
from ramp.problem.problem import Problem
from ramp.scoring.score_type import Score

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class BankedModel:
    """A model with its bank: ``name``, ``config``, ``linears`` (forward order), ``bank`` and ``fold`` (site -> scales).

    Raises:
        BankError: the bank is of another model or of another fold.
    """

    def __init__(self, model_dir: Path, bank: Path, fold: Path | None) -> None:
        from ramp.bank.with_model import open_bank

        self.model_dir, self.name = model_dir, model_dir.name
        self._folder = ModelFolder(model_dir)
        self.config, self.linears = self._folder.config, self._folder.linears
        self.bank, self.fold = open_bank(bank, self._folder, fold)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._folder.tokenizer()

    def float_model(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> PreTrainedModel:
        """Load the float model with the fold in its weights."""
        from ramp.calibration.folding import folded_float_model

        return folded_float_model(self.model_dir, self.fold, dtype, device)

    def windows(self, text: Path, *, length: int, count: int) -> torch.Tensor:
        """Return ``count`` windows of ``length`` tokens, spread over a text: int64 (count, length)."""
        from ramp.models.token_windows import token_windows

        return token_windows(self.tokenizer, text, length=length, count=count)

    def features(self, calibration: Path) -> np.ndarray:
        """Return the static features of every linear, float32 [n, 9]; ``calibration``: activation statistics."""
        return static_features(self.linears, read_stats(calibration, self.fold), self.bank.moments)

    def budget_bytes(self, bits: float) -> int:
        """Return the budget in bytes of ``bits`` per weight."""
        return budget_bytes(self.linears, bits, self.bank.group_size)

    def problem(
        self,
        calibration: Path,
        budget_bits: float,
        evaluate: Callable[[np.ndarray], Score],
        select: Callable[[np.ndarray], Score],
        **more: Any,
    ) -> Problem:
        """Return the allocation problem of this model; ``more`` are the other fields of ``Problem``."""
        return Problem(
            model=self.name,
            linears=self.linears,
            widths=self.bank.widths,
            bytes=self.bank.bytes(),
            budget_bytes=self.budget_bytes(budget_bits),
            budget_bits=budget_bits,
            features=self.features(calibration),
            evaluate=evaluate,
            select=select,
            bytes_at=self.budget_bytes,
            **more,
        )
