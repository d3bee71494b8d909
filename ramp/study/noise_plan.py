"""The float model against itself: the study's ``noise`` as jobs, one for each model and variation."""

from __future__ import annotations

from dataclasses import dataclass

from ramp.core.arithmetic import FAST, REPRODUCIBLE
from ramp.scoring.noise_variations import VARIATIONS
from ramp.study.config import Study


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
        """Return a variation as options of ``ramp.evaluation.noise_floor``; what it does not change is the study's."""
        found = VARIATIONS[variation]
        arithmetic = found.arithmetic or (REPRODUCIBLE if self.study.reproducible else FAST)
        words = ["--variation", variation, "--dtype", found.dtype or self.study.dtype, "--arithmetic", arithmetic]
        return [*words, "--device", self.study.device, "--threads", str(found.threads or self.study.threads)]
