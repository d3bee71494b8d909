"""Folds that are searched together: the search of a shared fold gives those of its single widths too."""

from __future__ import annotations

from ramp.methods.kinds import FoldRef
from ramp.methods.names import UNQUANTIZED
from ramp.study.planned_rows import Plan


def folds_of_rows(plan: Plan, model: str) -> set[FoldRef]:
    """Return the folds that a model's rows are quantized with."""
    bare = {*UNQUANTIZED, *plan.unable}
    rows = (row for row in plan.rows if row.model == model and row.method not in bare)
    return {plan.fold_of(row.method, row.budget) for row in rows}


def searched_with(plan: Plan, model: str, fold: str) -> FoldRef | None:
    """Return the shared fold whose search gives that of one width too; None for a fold that is searched alone."""
    asked = FoldRef.parse(fold)
    shared, settings = FoldRef(asked.name), plan.study.folds.get(asked.name)
    if settings is None or asked.width not in settings.bits or not {asked, shared} <= folds_of_rows(plan, model):
        return None
    return shared
