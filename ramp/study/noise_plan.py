"""The float model against itself: the study's ``noise`` as jobs, one for each model and variation."""

from __future__ import annotations

from dataclasses import dataclass

from ramp.core.arithmetic import FAST, REPRODUCIBLE
from ramp.study.config import Study


@dataclass(frozen=True)
class Variation:
    """What differs from the reference's own run; None or False where nothing does."""

    title: str
    dtype: str | None = None
    arithmetic: str | None = None
    threads: int | None = None
    reverse: bool = False  # windows from the last to the first
    windows_per_batch: int | None = None


VARIATIONS = {
    "again": Variation("nothing: the same evaluation once more"),
    "reverse_order": Variation("windows from the last to the first", reverse=True),
    "other_batch": Variation("two windows in a batch", windows_per_batch=2),
    "two_threads": Variation("two threads", threads=2),
    "fast_arithmetic": Variation("the library's own kernels, one thread", arithmetic=FAST, threads=1),
    "fast_two_threads": Variation("the library's own kernels, two threads", arithmetic=FAST, threads=2),
    "bfloat16": Variation("bfloat16 instead of float32", dtype="bfloat16"),
}
"""Name -> variation, in the order of the table."""


@dataclass(frozen=True)
class NoisePlan:
    """All names and values that the rules of the noise floor need."""

    study: Study

    @property
    def models(self) -> list[str]:
        """Models of the section."""
        return list(self.study.noise.models)

    def files(self) -> list[str]:
        """Return the file of every model and variation."""
        return [f"{self.study.results}/noise/{model}/{name}.json" for model in self.models for name in VARIATIONS]

    def options(self, variation: str) -> list[str]:
        """Return a variation as options of ``ramp.evaluation.noise``; what it does not change is the study's."""
        found = VARIATIONS[variation]
        arithmetic = found.arithmetic or (REPRODUCIBLE if self.study.reproducible else FAST)
        words = ["--variation", variation, "--dtype", found.dtype or self.study.dtype, "--arithmetic", arithmetic]
        return [*words, "--device", self.study.device, "--threads", str(found.threads or 1)]
