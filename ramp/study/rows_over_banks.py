"""Final rows over banks: the study's ``banks`` as a list of rows.

A bank is one draw of a model (``ramp.study.draws``). On each there are the allocators' own rows, uniform rows, and rows
of one allocation: ``knapsack-b3.65-s0-draw0`` has the widths that were searched on draw 0, quantized on this draw. They
differ from bank to bank by rounding and calibration text alone: the noise floor of a final row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ramp.methods.kinds import Allocator, Quantizer
from ramp.methods.names import BAR
from ramp.study.config_sections import Banks
from ramp.study.draws import drawn, drawn_models
from ramp.study.record_files import Taken
from ramp.study.row_names import SHARED, PlanError, Row, bits

if TYPE_CHECKING:
    from ramp.study.planned_rows import Plan


@dataclass(frozen=True)
class BankRow:
    """One final row on one bank: its metrics lie in ``metrics/{row.model}/{row.name}.json``."""

    row: Row  # row.model is the draw
    bank: int  # draw of the model
    allocation_bank: int  # draw on which its widths were searched


@dataclass(frozen=True)
class BankPlan:
    """All names that the rules of rows over banks need."""

    plan: Plan

    @property
    def section(self) -> Banks:
        """The section; without rows where the study has none."""
        return self.plan.study.banks or Banks.model_construct(models=[], methods=[], draws=[], budgets=[])

    def check(self) -> None:
        """Raise ``PlanError`` for faults that only loaded methods show."""
        section = self.section
        for name in section.methods:
            chosen = self.plan.method(name)
            if not isinstance(chosen, Allocator):
                raise PlanError(f"banks.methods: '{name}' is no allocator: uniform rows stand in banks.uniform")
        for row in section.uniform:
            if not isinstance(self.plan.method(Row.parse(row).method), Quantizer) or not Row.parse(row).is_whole:
                raise PlanError(
                    f"banks.uniform: '{row}' is no uniform row of a quantizer of ours: name awq_gptq-b4, say"
                )
        _ = self.rows

    @property
    def models(self) -> list[str]:
        """Models of the section."""
        return list(self.section.models)

    @property
    def draws(self) -> list[str]:
        """Names of all draws but those that are the models themselves; one allocation needs no more."""
        return drawn_models(self.section.models, self.section.draws)

    @cached_property
    def variants(self) -> dict[str, Allocator]:
        """Variants of allocators among the methods: they are searched as methods are."""
        found = {name: self.plan.method(name) for name in self.section.methods if name in self.plan.study.variants}
        return {name: method for name, method in found.items() if isinstance(method, Allocator)}

    @cached_property
    def rows(self) -> list[BankRow]:
        """Every row, bank by bank; on draw 0 the row of one allocation is the method's own."""
        section, plan = self.section, self.plan
        found: list[BankRow] = []
        for model in section.models:
            for draw in section.draws:
                name = drawn(model, draw)
                own = [
                    Row(name, method, bits(budget), seed)
                    for method in plan.able(section.methods)
                    for budget in section.budgets
                    for seed in plan.seeds(method, section.seeds)
                ]
                uniform = [Row.parse(row, name, plan.study.limits.seeds[0]) for row in section.uniform]
                found += [BankRow(row, draw, draw) for row in [*own, *(r for r in uniform if plan.able([r.method]))]]
                if draw:
                    found += [BankRow(row, draw, 0) for row in self._shared(name)]
        return found

    def _shared(self, model: str) -> list[Row]:
        """Return the rows of one allocation on a draw; ``PlanError`` for one whose allocation nobody searches."""
        section, found = self.section, []
        for name in section.same_allocation:
            row = Row.parse(name, model, section.seeds[0])
            if row.method not in section.methods or float(row.budget) not in section.budgets:
                raise PlanError(f"banks.same_allocation: '{name}' is of no method and budget of the section: add them")
            if self.plan.able([row.method]):
                found.append(Row(model, row.method, row.budget, row.seed, SHARED))
        return found

    @cached_property
    def _own(self) -> frozenset[Row]:
        """The rows, but for those of the study itself."""
        return frozenset(each.row for each in self.rows) - frozenset(self.plan.rows)

    def twin(self, row: Row) -> Row | None:
        """Return the knapsack's row on the same draw at the same budget, whose weights a mixed row may share.

        None for uniform rows, for the knapsack's own, and for the rows of the study itself, which stay as they are.
        """
        if row not in self._own or row.method not in self.plan.mixed or BAR not in self.section.methods:
            return None
        twin = Row(row.model, BAR, row.budget, self.plan.seeds(BAR, self.section.seeds)[0])
        return None if twin == row else twin

    def file(self, row: BankRow) -> str:
        """Return the metrics of a row."""
        return f"{self.plan.study.results}/metrics/{row.row.model}/{row.row.name}.json"

    @property
    def collected(self) -> list[BankRow]:
        """Every row; with ``partial`` those that are there."""
        return [row for row in self.rows if not self.section.partial or Path(self.file(row)).is_file()]

    def files(self) -> list[Taken]:
        """Return the metrics of the rows; with ``partial`` they are taken as they are."""
        return [(self.file(row), self.section.partial) for row in self.collected]
