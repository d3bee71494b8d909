"""The metrics file of a row as its readers take it, checked; ``ramp.evaluation.metrics`` writes it. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt

from ramp.core.atomic_files import read_json
from ramp.core.safe_name import FileName
from ramp.rows.meta_file import Number, RowKey

AGAIN = "delete it and evaluate the row again"
Measured = Number | None
"""A number; None where it was not finite."""


class WindowSums(BaseModel):
    """Sums over one window, in nats."""

    model_config = ConfigDict(extra="allow")

    tokens: PositiveInt
    nll: Measured
    kl: Measured


class TextScores(BaseModel):
    """Scores on one text, with the ends of their intervals."""

    model_config = ConfigDict(extra="allow")

    length: int
    windows: list[WindowSums]
    ppl: Measured
    ppl_low: Measured
    ppl_high: Measured
    kl: Measured
    kl_low: Measured
    kl_high: Measured


class MetricsFile(BaseModel):
    """Fields that a metrics file must have; others are kept as they are."""

    model_config = ConfigDict(extra="allow")

    key: RowKey
    texts: dict[FileName, TextScores]
    sizes: dict[str, Number]
    made: dict[str, Any] = {}
    search: dict[str, Any] | None = None
    simulated: bool
    note: str
    commit: str = ""
    versions: dict[str, str]
    dtype: str | None = None
    hardware: str | None = None

    def written(self) -> dict[str, Any]:
        """Return the content as it was read."""
        return self.model_dump(exclude_unset=True)


def read_metrics(path: Path) -> MetricsFile:
    """Read the metrics file of a row; ``DamagedFile`` where it is none."""
    return read_json(path, MetricsFile, sealed=True, again=AGAIN)
