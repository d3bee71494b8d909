"""Names of rows: ``{method}-b{bits}-s{seed}``, for instance ``gptq-b4-s0`` or ``ramp-b3.65-s0``."""

from __future__ import annotations

import re
from dataclasses import dataclass

FLOAT, RELEASED = "float", "released"
GGML = "-ggml"
ROW = re.compile(r"(?P<method>[a-z][a-z0-9_]*)-b(?P<budget>[0-9.]+)-s(?P<seed>[0-9]+)(?P<ending>-[a-z0-9_]+)?")


@dataclass(frozen=True, order=True)
class Row:
    """One quantized (or float) model."""

    model: str
    method: str
    budget: str  # bits as written in names: "4", "3.65"
    seed: int

    @property
    def name(self) -> str:
        """The row's folder below ``R/quantized/{model}``."""
        return f"{self.method}-b{self.budget}-s{self.seed}"

    @property
    def short(self) -> str:
        """The name without its seed, as the configuration writes it."""
        return f"{self.method}-b{self.budget}"


def bits(value: float) -> str:
    """Bits as they stand in file names: 4.0 -> ``4``."""
    return f"{value:g}"
