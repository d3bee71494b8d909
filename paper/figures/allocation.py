"""Bits by layer and role: what the search chose beside what the knapsack chose, at the smallest budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paper import style
from paper.naming import ROLES, bits_title, method_title, model_title
from paper.study import Entry, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = ("ramp", "knapsack", "ramp_paper", "random_search")
"""Methods in order of preference; the first two that were run are drawn."""


def allocation(study: Study) -> Figure:
    """Heat maps of the reported widths (mean over seeds) on the source model."""
    maps = [(entry, found) for entry in _entries(study) if (found := widths(study, entry)) is not None]
    if not maps:
        return style.sentence("The records hold no mixed allocation of the source model.")
    from matplotlib.colors import BoundaryNorm

    figure, axes = style.canvas(1.4 * len(maps) + 0.3, len(maps), 1, sharex=True)
    levels = np.arange(int(min(np.nanmin(m) for _, m in maps)), int(max(np.nanmax(m) for _, m in maps)) + 1)
    norm = BoundaryNorm(np.append(levels - 0.5, levels[-1] + 0.5), 256)
    image = None
    for axis, (entry, bits) in zip(axes, maps, strict=True):
        layers, roles = np.arange(bits.shape[1] + 1) - 0.5, np.arange(len(ROLES) + 1) - 0.5
        image = axis.pcolormesh(layers, roles, bits, cmap="viridis", norm=norm, edgecolors="white", linewidth=0.3)
        axis.set_yticks(range(len(ROLES)), ROLES)
        axis.invert_yaxis()
        axis.grid(False)
        axis.set_ylabel("linear")
        axis.set_title(_title(entry), loc="left")
    axes[-1].set_xlabel(f"decoder block of {model_title(study.source)}, from 0")
    if image is not None:
        bar = figure.colorbar(image, ax=axes, ticks=levels, shrink=0.8, pad=0.015)
        bar.set_label("bits per weight")
    return figure


def _title(entry: Entry) -> str:
    seeds = f", width nearest to the mean of {len(entry.records)} seeds" if len(entry.records) > 1 else ""
    return f"{method_title(entry.method)}, budget {bits_title(entry.budget_bits)} bits{seeds}"


def _entries(study: Study) -> list[Entry]:
    """The two preferred methods at their smallest common budget."""
    runs = {method: study.find(study.source, method) for method in SHOWN}
    chosen = [method for method in SHOWN if runs[method]][:2]
    if not chosen:
        return []
    budgets = set.intersection(*({e.budget_bits for e in runs[method]} for method in chosen))
    if not budgets:
        return [runs[method][0] for method in chosen]
    return [e for method in chosen for e in runs[method] if e.budget_bits == min(budgets)]


def widths(study: Study, entry: Entry) -> np.ndarray | None:
    """Mean width over seeds, [roles, layers]; NaN where a model has no such linear. None without an allocation."""
    frame = study.frame("allocations")
    if frame is None:
        return None
    part = frame[(frame["model"] == entry.model) & (frame["method"] == entry.method) & (frame["grid"] == entry.grid)]
    part = part[(part["which"] == "reported") & ((part["budget_bits"] - entry.budget_bits).abs() < 1e-9)]
    if part.empty or part["bits"].isna().all():
        return None
    mean = part.assign(bits=part["bits"].astype("float64")).groupby(["role", "layer"])["bits"].mean()
    bits = np.full((len(ROLES), int(part["layer"].max()) + 1), np.nan)
    for (role, layer), value in mean.items():
        bits[ROLES.index(str(role)), int(layer)] = value
    return bits
