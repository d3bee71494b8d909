"""Additive sensitivities, read from their file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, FiniteFloat, NonNegativeInt, model_validator

from ramp.core.atomic_files import read_json, require_file
from ramp.models.architecture import LinearSpec
from ramp.problem.budget import AllocationError
from ramp.quantizers.widths import Width

FROM_CHEAPEST = "kl_cheapest"
"""Kind of sensitivities measured from the cheapest allocation."""


class Sensitivities(BaseModel):
    """The content of a file of sensitivities, as far as a search reads it."""

    proxy: str  # kind of ``ramp.sensitivity``
    tokens: NonNegativeInt  # forward tokens that they cost
    bank_sha256: str | None = None  # of the weights that they were measured on; files of earlier versions lack it
    linears: dict[str, dict[str, FiniteFloat]]  # linear -> width -> nats per token

    @model_validator(mode="after")
    def not_negative(self) -> Self:
        """Refuse a loss below zero; from the cheapest allocation on (``kl_cheapest``) others gain."""
        for name, row in self.linears.items():
            if self.proxy != FROM_CHEAPEST and min(row.values(), default=0) < 0:
                raise ValueError(f"{name} has the sensitivity {min(row.values())}, less than none")
        return self


def read_sensitivities(path: Path) -> Sensitivities:
    """Read a file of sensitivities, with its checksum compared."""
    again = "run ramp.sensitivity on this bank again"
    return read_json(require_file(path, "sensitivities"), Sensitivities, sealed=True, again=again)


def read_proxy(
    path: Path, linears: Sequence[LinearSpec], widths: Sequence[Width], bank_sha256: str | None = None
) -> tuple[np.ndarray, int]:
    """Return additive sensitivities float64 [n, w], nats per token, and the forward tokens that they cost.

    bank_sha256: of the weights of the bank that is searched; None where there is none.

    Raises:
        AllocationError: the file lacks a linear or a width, or was measured on another bank.
    """
    record = read_sensitivities(path)
    if bank_sha256 and record.bank_sha256 not in (None, bank_sha256):
        raise AllocationError(f"{path} was measured on another bank: run ramp.sensitivity on this bank")
    rows = record.linears
    try:
        proxy = np.array([[rows[linear.name][str(width)] for width in widths] for linear in linears], dtype=np.float64)
    except KeyError as error:
        raise AllocationError(f"{path} lacks {error}: run ramp.sensitivity on this bank") from None
    return proxy, record.tokens
