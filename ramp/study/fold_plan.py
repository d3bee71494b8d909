"""Rows of the folds' ablation: the study's ``fold_ablation`` as a list.

A row is one model with every linear at one width, quantized by one method on the weights of one fold; the folded float
model is one more row of every fold file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ramp.methods.kinds import FoldRef, Quantizer
from ramp.methods.names import FLOAT
from ramp.study.config_sections import FoldAblation
from ramp.study.record_files import Taken
from ramp.study.row_names import PlanError

if TYPE_CHECKING:
    from ramp.study.planned_rows import Plan


@dataclass(frozen=True)
class FoldRun:
    """One row: its file is ``{model}/{file}/{method}-b{bits}.json``."""

    model: str
    fold: str  # as the configuration calls it
    file: str  # the fold file's stem: awq_w3 where the fold is searched at each row's own width
    method: str
    bits: int


@dataclass(frozen=True)
class FoldPlan:
    """All names that the ablation's rules need."""

    plan: Plan

    @property
    def section(self) -> FoldAblation:
        """The ablation's section of the configuration; ``PlanError`` where the study has none."""
        if self.plan.study.fold_ablation is None:
            raise PlanError("the configuration has no section 'fold_ablation': config/league.yaml has an example")
        return self.plan.study.fold_ablation

    def check(self) -> None:
        """Raise ``PlanError`` for methods that give no uniform rows of ours."""
        for name in self.plan.study.fold_ablation.methods if self.plan.study.fold_ablation else []:
            if not isinstance(self.plan.method(name), Quantizer):
                raise PlanError(f"fold_ablation.methods: '{name}' is no quantizer of ours: name rtn or gptq")

    @property
    def models(self) -> list[str]:
        """Models of the ablation."""
        return list(self.plan.study.fold_ablation.models) if self.plan.study.fold_ablation else []

    @cached_property
    def runs(self) -> list[FoldRun]:
        """Every row, the folded float models among them; a float model without a fold is the reference itself."""
        found: dict[FoldRun, None] = {}
        able = self.plan.able(self.section.methods) if self.models else []
        for model in self.models:
            for fold in self.section.folds:
                for bits in self.section.bits:
                    file = str(self.plan.study.fold_ref(fold, bits))
                    if fold != "none":
                        found[FoldRun(model, fold, file, FLOAT, 16)] = None
                    found |= dict.fromkeys(FoldRun(model, fold, file, method, bits) for method in able)
        return list(found)

    def files(self) -> list[Taken]:
        """Return the rows' files; with ``partial`` those that are there, as they are."""
        folder = f"{self.plan.study.results}/fold_ablation"
        files = [f"{folder}/{run.model}/{run.file}/{run.method}-b{run.bits}.json" for run in self.runs]
        partial = self.plan.study.fold_ablation is not None and self.plan.study.fold_ablation.partial
        return [(file, partial) for file in files if not partial or Path(file).is_file()]

    def fold_of(self, file: str) -> str:
        """Return what the configuration calls the fold in a file."""
        name = FoldRef.parse(file).name
        return name if name in self.plan.study.folds else file
