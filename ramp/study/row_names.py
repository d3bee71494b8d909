"""Names of rows: ``{method}-b{bits}-s{seed}``, for instance ``gptq-b4-s0`` or ``ramp-b3.65-s0``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ramp.core.errors import RampError

GGML = "ggml"
"""Ending of rows on the ggml grid."""
SHARED = "draw0"
"""Ending of rows of another draw of a model that have the allocation of draw 0."""
TUNED = "tuned"
"""Ending of rows whose scales are tuned."""
_NAME = re.compile(r"([a-z][a-z0-9_]*)-b([0-9]+(?:\.[0-9]+)?)(?:-s([0-9]+)(?:-([a-z0-9_]+))?)?")


class PlanError(RampError):
    """The study asks for something that its methods or models cannot give."""


@dataclass(frozen=True)
class Row:
    """One quantized (or float) model."""

    model: str
    method: str
    budget: str  # bits as written in names: "4", "3.65"
    seed: int
    ending: str = ""  # ggml, draw0, tuned, or the track of a row that is stored once more

    @classmethod
    def parse(cls, name: str, model: str = "", seed: int = 0) -> Row:
        """Read a row's name, or its short form without a seed, which then is ``seed``; ``PlanError`` for others."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise PlanError(f"'{name}' is no row: use {{method}}-b{{bits}}-s{{seed}}")
        return cls(model, match[1], match[2], int(match[3] or seed), match[4] or "")

    @property
    def name(self) -> str:
        """The row's folder below ``R/quantized/{model}``."""
        return f"{self.base}-{self.ending}" if self.ending else self.base

    @property
    def is_whole(self) -> bool:
        """Return whether the budget is a width of the affine grid."""
        return self.budget.isdigit() and self.budget == str(int(self.budget)) and 2 <= int(self.budget) <= 8

    @property
    def base(self) -> str:
        """The name without grid or track."""
        return f"{self.short}-s{self.seed}"

    @property
    def short(self) -> str:
        """Method and bits, as the configuration writes a row."""
        return f"{self.method}-b{self.budget}"


def bits(value: float) -> str:
    """Return bits as written in file names: 4.0 -> ``4``."""
    return f"{value:g}"
