"""Rows with tuned scales: the study's ``tuning`` as a list of finished rows, each with its tuned one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ramp.methods.kinds import Allocator, Quantizer
from ramp.study.config_sections import Tuning
from ramp.study.draws import drawn, drawn_models
from ramp.study.record_files import Taken
from ramp.study.row_names import TUNED, PlanError, Row

if TYPE_CHECKING:
    from ramp.study.planned_rows import Plan


@dataclass(frozen=True)
class TuningPlan:
    """All names that the rules of tuned rows need."""

    plan: Plan

    @property
    def section(self) -> Tuning:
        """The section of the configuration."""
        return self.plan.study.tuning

    def check(self) -> None:
        """Raise ``PlanError`` for rows that are not on our grid, which only loaded methods show."""
        for name in self.section.rows if self.section.models else []:
            row = Row.parse(name)
            chosen = self.plan.method(row.method)
            if not isinstance(chosen, Quantizer | Allocator):
                raise PlanError(f"tuning.rows: '{name}' is no row of a quantizer or an allocator of ours: name rtn-b4")
            if isinstance(chosen, Quantizer) and not row.is_whole:
                raise PlanError(f"tuning.rows: '{name}' is uniform and has no whole width: name {row.method}-b4")

    @property
    def models(self) -> list[str]:
        """Models of the section."""
        return list(self.section.models)

    @property
    def draws(self) -> list[str]:
        """Names of all draws but those that are the models themselves."""
        return drawn_models(self.section.models, self.section.draws)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that are tuned, bank by bank; those of methods that cannot run here are left out."""
        seed, names = self.plan.study.limits.seeds[0], self.section.rows
        return [
            row
            for model in self.section.models
            for draw in self.section.draws
            for row in (Row.parse(name, drawn(model, draw), seed) for name in names)
            if self.plan.able([row.method])
        ]

    @property
    def bases(self) -> list[str]:
        """Names of the rows that are tuned, without models."""
        return sorted({row.base for row in self.rows})

    def files(self, row: Row) -> list[str]:
        """Return the tuned row's ``meta.json``, and the metrics of the row before and after tuning."""
        results, tuned = self.plan.study.results, replace(row, ending=TUNED)
        metrics = [f"{results}/metrics/{row.model}/{each.name}.json" for each in (row, tuned)]
        return [f"{results}/quantized/{row.model}/{tuned.name}/meta.json", *metrics]

    @property
    def collected(self) -> list[Row]:
        """Every row; with ``partial`` those whose files are there."""
        return [
            row for row in self.rows if not self.section.partial or all(map(Path.is_file, map(Path, self.files(row))))
        ]

    def taken(self) -> list[Taken]:
        """Return the files of all rows; with ``partial`` they are taken as they are."""
        return [(file, self.section.partial) for row in self.collected for file in self.files(row)]

    def options(self) -> list[str]:
        """Return the schedule as options of ``ramp.rows.tune``."""
        names = ("steps", "batch", "length", "rate", "seed")
        return [word for name in names for word in (f"--{name}", str(getattr(self.section, name)))]

    def words(self) -> list[str]:
        """Return the collected rows as ``META,BEFORE,AFTER``."""
        return [",".join(self.files(row)) for row in self.collected]
