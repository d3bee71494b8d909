"""Rows that measure leaks: the study's ``leakage`` as a list, and the text that calibrates and searches each model.

A row is made again on text that is nearer to the held-out text (``ramp.study.leaked_models``), and compared with the
study's own row on the same windows. ``text`` is the one place where a stage before evaluation is given scored text,
and it does so for the models of ``names`` alone; no plan of other rows has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ramp.assets.leakage_texts import NO_LEAK, NO_SEARCH, OWN, Leak
from ramp.methods.kinds import Allocator, Quantizer
from ramp.study.config_sections import Leakage
from ramp.study.draws import base_model, drawn
from ramp.study.leaked_models import calibrated_as, leaking, split_leak
from ramp.study.record_files import Taken
from ramp.study.row_names import PlanError, Row

if TYPE_CHECKING:
    from ramp.study.planned_rows import Plan

HELDOUT, IN_DOMAIN, DISJOINT, TEST = "heldout", "in_domain", "disjoint", "test"


@dataclass(frozen=True)
class LeakRow:
    """One row: its metrics lie in ``metrics/{row.model}/{row.name}.json``."""

    row: Row  # row.model is the draw, or its leak
    draw: int
    mixed: bool

    @property
    def leak(self) -> Leak:
        """Its leak; none of the study's own row."""
        return split_leak(self.row.model)[1]


@dataclass(frozen=True)
class LeakagePlan:
    """All names that the rules of leaking rows need."""

    plan: Plan

    @property
    def section(self) -> Leakage:
        """The section of the configuration."""
        return self.plan.study.leakage

    @property
    def models(self) -> list[str]:
        """Models of the section; none where it waits for its request and this study could not answer it."""
        return [] if self.section.on_request and self.hindrance else list(self.section.models)

    def check(self) -> None:
        """Raise ``PlanError`` for rows that are not on our grid, and for ``hindrance`` unless nobody asked yet."""
        for name in self.section.rows if self.section.models else []:
            row = Row.parse(name)
            chosen = self.plan.method(row.method)
            if not isinstance(chosen, Quantizer | Allocator) or (isinstance(chosen, Quantizer) and not row.is_whole):
                raise PlanError(
                    f"leakage.rows: '{name}' is no row of a quantizer or an allocator of ours: name awq_gptq-b4"
                )
        if self.hindrance and not self.section.on_request:
            raise self.hindrance

    @cached_property
    def hindrance(self) -> PlanError | None:
        """Return why this study cannot measure a leak: levels that no text has, too few scored windows."""
        texts = self.plan.study.evaluation
        if self.section.models and HELDOUT not in {*texts.texts} & {*texts.target_texts}:
            return PlanError("leakage: its rows are scored on 'heldout': add it to evaluation.texts and target_texts")
        try:
            for leak in self.leaks:
                for role, level in (("calibration", leak.calibration), ("search", leak.search)):
                    _ = self._role_of(role, level)
            for model in self.section.models:
                self._check_length(model)
        except PlanError as error:
            return PlanError(f"{error}; 'leakage: {{models: []}}' leaves the section out")
        return None

    # --- texts -----------------------------------------------------------------------------------------------

    def own(self, role: str) -> str:
        """Return the level of the study's own text of a role: whether it shares the source of the held-out text."""
        return IN_DOMAIN if self.plan.sources(role) & self.plan.sources(HELDOUT) else DISJOINT

    def text(self, model: str, role: str) -> str:
        """Return the text of a role (calibration, search or selection) for a model: a role's, or the scored windows."""
        _, leak = split_leak(model)
        level = leak.calibration if role == "calibration" else leak.search
        if level == TEST:
            return f"{self.plan.study.results}/leakage/{base_model(model)}/test.jsonl"
        return f"{self.plan.study.results}/texts/{self._role_of(role, level)}.jsonl"

    def _role_of(self, role: str, level: str) -> str:
        """Return the role whose text a level of a role is; ``PlanError`` where no text of the study is.

        Other documents of the held-out text's source are those of ``train``; text of another source for a search is the
        calibration's.
        """
        if level in (OWN, TEST) or level == self.own(role):
            return role
        other = "train" if level == IN_DOMAIN else "calibration"
        if self.plan.sources(other) and self.own(other) == level:
            return other
        what = {IN_DOMAIN: "of the held-out text's own source", DISJOINT: "of another source than the held-out text"}
        raise PlanError(
            f"leakage.cells: no text for {role} {level}: the documents of role '{other}' are not {what[level]}; "
            "leave such cells out, or give the roles other texts"
        )

    def _check_length(self, model: str) -> None:
        """Raise ``PlanError`` where the scored windows are fewer tokens than a stage that is to read them wants."""
        study, limits, source = self.plan.study, self.plan.study.limits, model == self.plan.study.source
        windows = limits.windows if source else limits.target_windows
        if windows is None or not any(TEST in (leak.calibration, leak.search) for leak in self.leaks):
            return
        calibration, sensitivity, search = study.calibration, study.sensitivity, study.search
        wanted = {
            "calibration": (None if source else calibration.target_tokens) or calibration.tokens,
            "sensitivity": ((None if source else sensitivity.target_windows) or sensitivity.windows)
            * sensitivity.length,
            "search": search.windows * search.length,
            "selection": (search.selection_windows or search.windows) * search.length,
        }
        stage, most = max(wanted.items(), key=lambda each: each[1])
        if windows * study.evaluation.length < most:
            raise PlanError(
                f"leakage: {windows} windows of {study.evaluation.length} held-out tokens are scored, {stage} wants "
                f"{most:,} tokens: score more windows, or leave cells with 'test' out"
            )

    # --- rows ------------------------------------------------------------------------------------------------

    @cached_property
    def leaks(self) -> list[Leak]:
        """The cells but the study's own, each level of a text that is the study's own anyway named so."""
        own = {role: self.own(role) for role in ("calibration", "search")} if self.section.models else {}
        found = [
            Leak(*(OWN if level == own[role] else level for role, level in cell)) for cell in self.section.cells if own
        ]
        return [leak for leak in dict.fromkeys(found) if leak != NO_LEAK]

    @property
    def names(self) -> list[str]:
        """Names of the leaking models, of those whose calibration they share, and of the draws behind them."""
        own = [drawn(model, draw) for model in self.models for draw in self.section.draws]
        made = [leaking(name, leak) for name in own for leak in self.leaks]
        return list(dict.fromkeys([*own, *map(calibrated_as, made), *made]))

    @cached_property
    def rows(self) -> list[LeakRow]:
        """Every row, each of the study's own before its leaks; those of methods that cannot run here are left out."""
        seed, plan = self.plan.study.limits.seeds[0], self.plan
        calibrations = list(dict.fromkeys(Leak(leak.calibration) for leak in self.leaks if leak.calibration != OWN))
        found = []
        for model in self.models:
            for draw in self.section.draws:
                for name in self.section.rows:
                    mixed = isinstance(plan.method(Row.parse(name).method), Allocator)
                    for leak in (NO_LEAK, *(self.leaks if mixed else calibrations)):
                        row = Row.parse(name, leaking(drawn(model, draw), leak), seed)
                        found.append(LeakRow(row, draw, mixed))
        return [each for each in found if plan.able([each.row.method])]

    def levels(self, row: LeakRow) -> tuple[str, str]:
        """Return the levels of a row's calibration and of its search."""
        found = [
            self.own(role) if level == OWN else level
            for role, level in (("calibration", row.leak.calibration), ("search", row.leak.search))
        ]
        return found[0], found[1] if row.mixed else NO_SEARCH

    def file(self, row: LeakRow) -> str:
        """Return the metrics of a row."""
        return f"{self.plan.study.results}/metrics/{row.row.model}/{row.row.name}.json"

    @property
    def collected(self) -> list[LeakRow]:
        """Every row; with ``partial`` those that are there."""
        return [row for row in self.rows if not self.section.partial or Path(self.file(row)).is_file()]

    def files(self) -> list[Taken]:
        """Return the metrics of the rows; with ``partial`` they are taken as they are.

        Raises:
            PlanError: there are none, because this study cannot measure a leak.
        """
        if self.hindrance:
            raise self.hindrance
        return [(self.file(row), self.section.partial) for row in self.collected]

    def words(self) -> list[str]:
        """Return the collected rows as ``CALIBRATION,SEARCH,DRAW=FILE``."""
        return [",".join([*self.levels(row), str(row.draw)]) + f"={self.file(row)}" for row in self.collected]
