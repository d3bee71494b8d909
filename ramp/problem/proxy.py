"""Additive sensitivities, read from their file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ramp.core.files import read_json, require_file
from ramp.models.architecture import LinearSpec
from ramp.problem.budget import AllocationError
from ramp.quantizers.widths import Width


def read_proxy(path: Path, linears: Sequence[LinearSpec], widths: Sequence[Width]) -> tuple[np.ndarray, int]:
    """Return additive sensitivities float64 [n, w], nats per token, and the forward tokens that they cost.

    Raises:
        AllocationError: the file lacks a linear or a width.
    """
    record = read_json(require_file(path, "sensitivities"))
    rows = record["linears"]
    try:
        proxy = np.array([[rows[linear.name][str(width)] for width in widths] for linear in linears], dtype=np.float64)
    except KeyError as error:
        raise AllocationError(f"{path} lacks {error}: run ramp.sensitivity.fisher on this bank") from None
    return proxy, int(record["tokens"])
