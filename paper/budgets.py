"""The budgets at which the paper's text and its short tables compare rows of the source model."""

from __future__ import annotations

import math

from paper.comparisons import saving
from paper.naming import RAMP_METHODS, UNIFORM_METHODS
from paper.study import Study
from paper.tables.main import uniform_reference


def budget_bytes(study: Study, bits: float) -> float | None:
    """Return a budget in bytes of the source's linears: between its uniform rows; None where it has not both."""
    sizes: dict[int, float] = {}
    for entry in study.find(study.source):
        if entry.method in UNIFORM_METHODS and (size := entry.mean("bytes_linear")):  # of the study's own groups
            sizes.setdefault(round(entry.budget_bits), size)
    below, above = math.floor(bits), math.ceil(bits)
    if below not in sizes or above not in sizes:
        return None
    return sizes[below] + (bits - below) * (sizes[above] - sizes[below])


def low_budget(study: Study) -> float | None:
    """Return the smallest budget of the searched rows on the source model, or without any the knapsack's."""
    searched = [e.budget_bits for method in RAMP_METHODS for e in study.find(study.source, method)]
    budgets = searched or [e.budget_bits for e in study.find(study.source, "knapsack")]
    return min(budgets) if budgets else None


def paper_budget(study: Study) -> float | None:
    """Return the budget at which ``ramp`` saves nearest to 6 % of the linears' bytes, between 5 and 7 %.

    The paper's 6 % is of its whole file, whose accounting is not known.
    """
    uniform = uniform_reference(study, study.source)
    saved = {
        entry.budget_bits: share
        for entry in study.find(study.source, "ramp")
        if uniform and (share := saving(entry, uniform, "bytes_linear")) is not None and 0.05 <= share <= 0.07
    }
    return min(saved, key=lambda budget: abs(saved[budget] - 0.06)) if saved else None
