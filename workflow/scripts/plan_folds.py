"""Which rows the folds' ablation has: the study's ``fold_ablation`` as a list.

A row is one model with every linear at one width, quantized by one method on the weights of one fold; beside them the
folded float model stands once for every fold file, with nothing quantized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ramp.methods.kinds import Method, Quantizer, own_fold
from ramp.study.config import Study
from ramp.study.sections import FoldAblation
from workflow.scripts.plan_league import base_of

FLOAT = "float"


class FoldPlanError(ValueError):
    """The fold ablation asks for something that its methods cannot give."""


@dataclass(frozen=True, order=True)
class FoldRun:
    """One row: its file is ``{model}/{file}/{method}-b{bits}.json``."""

    model: str
    fold: str  # as the configuration calls it
    file: str  # the fold file's stem: awq_w3 where the fold is searched at each row's own width
    method: str
    bits: int


def fold_methods(study: Study) -> list[str]:
    """Method files that the ablation needs, those behind variants included."""
    named = study.fold_ablation.methods if study.fold_ablation else []
    return list(dict.fromkeys(base_of(study, name) for name in named))


@dataclass(frozen=True)
class FoldPlan:
    """All names that the ablation's rules need."""

    study: Study
    methods: Mapping[str, Method]
    unable: frozenset[str] = frozenset()  # methods that cannot run here: the ablation goes on without them

    @property
    def section(self) -> FoldAblation | None:
        """The ablation's section of the configuration."""
        return self.study.fold_ablation

    def check(self) -> None:
        """Raise ``FoldPlanError`` for methods that give no uniform rows of ours."""
        for name in self.section.methods if self.section else []:
            if not isinstance(self.methods[base_of(self.study, name)], Quantizer):
                raise FoldPlanError(f"fold_ablation.methods: '{name}' is no quantizer of ours: name rtn or gptq")

    def file_of(self, fold: str, bits: int) -> str:
        """The fold file of a row: of its own width where the fold is searched so."""
        settings = self.study.folds.get(fold)
        return own_fold(fold, bits) if settings is not None and settings.has_own(bits) else fold

    @cached_property
    def runs(self) -> list[FoldRun]:
        """Every row, the folded float models among them; a float model without a fold is the reference itself."""
        found: dict[FoldRun, None] = {}
        for model in self.models:
            for fold, bits in self._folds_and_bits():
                file = self.file_of(fold, bits)
                if fold != "none":
                    found[FoldRun(model, fold, file, FLOAT, 16)] = None
                for method in self._able():
                    found[FoldRun(model, fold, file, method, bits)] = None
        return list(found)

    def _able(self) -> list[str]:
        named = self.section.methods if self.section else []
        return [name for name in named if base_of(self.study, name) not in self.unable]

    def _folds_and_bits(self) -> list[tuple[str, int]]:
        return [(fold, bits) for fold in self.section.folds for bits in self.section.bits] if self.section else []

    @property
    def models(self) -> list[str]:
        """Models of the ablation."""
        return list(self.section.models) if self.section else []

    @property
    def rows(self) -> list[str]:
        """Names of the rows of one model and fold: ``gptq-b3``."""
        return sorted({f"{run.method}-b{run.bits}" for run in self.runs})

    def fold_of(self, file: str) -> str:
        """What the configuration calls the fold in a file."""
        return next(run.fold for run in self.runs if run.file == file)
