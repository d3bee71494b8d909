"""Widths by layer and role: the search's and the knapsack's, at the smallest budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from paper import style
from paper.naming import ROLES, bits_title, method_title, model_title, width_names
from paper.study import ALLOCATED, Entry, Study
from ramp.quantizers.widths import Width, grouped, make_menu

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = ("ramp", "knapsack", "ramp_paper", "random_search")
"""Methods in order of preference; the first two that were run are drawn."""


def allocation(study: Study) -> Figure:
    """Draw heat maps of the reported widths (mean over seeds) on the source model."""
    parts = [(entry, part) for entry in _entries(study) if (part := reported(study, entry)) is not None]
    if not parts:
        return style.sentence("The records hold no mixed allocation of the source model.")
    from matplotlib.colors import BoundaryNorm

    used = make_menu({width for _, part in parts for width in width_names(part)}, parts[0][0].group_size)
    # Bits stand on a scale of their own, gaps included; of a menu with groups the entries stand side by side.
    ranks = {width: rank for rank, width in enumerate(used)} if grouped(used) else {}
    maps = [(entry, widths(part, ranks)) for entry, part in parts]
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
        bar.set_label("bits per weight; after a g, group size" if ranks else "bits per weight")
        if ranks:
            bar.set_ticklabels([str(width) for width in ranks])
    return figure


def _title(entry: Entry) -> str:
    seeds = f", width nearest to the mean of {len(entry.records)} seeds" if len(entry.records) > 1 else ""
    return f"{method_title(entry.method)}, budget {bits_title(entry.budget_bits)} bits{seeds}"


def _entries(study: Study) -> list[Entry]:
    """Return the two preferred methods at their smallest common budget."""
    runs = {method: study.find(study.source, method) for method in SHOWN}
    chosen = [method for method in SHOWN if runs[method]][:2]
    if not chosen:
        return []
    budgets = set.intersection(*({e.budget_bits for e in runs[method]} for method in chosen))
    if not budgets:
        return [runs[method][0] for method in chosen]
    return [e for method in chosen for e in runs[method] if e.budget_bits == min(budgets)]


def reported(study: Study, entry: Entry) -> pd.DataFrame | None:
    """Return the linears of a row's allocation, all its seeds; None where the records do not hold it."""
    part = study.rows_of(entry, "allocations", ALLOCATED, which="reported")
    part = None if part is None else part.dropna(subset=["bits"])
    return None if part is None or part.empty else part


def widths(part: pd.DataFrame, ranks: Mapping[Width, int]) -> np.ndarray:
    """Return the mean over seeds of the bits, or of the ``ranks`` of widths with groups, [roles, layers].

    NaN where a model has no such linear.
    """
    values = [ranks[width] for width in width_names(part)] if ranks else part["bits"].astype("float64")
    mean = part.assign(value=values).groupby(["role", "layer"])["value"].mean()
    found = np.full((len(ROLES), int(part["layer"].max()) + 1), np.nan)
    for (role, layer), value in mean.items():
        found[ROLES.index(str(role)), int(layer)] = value
    return found
