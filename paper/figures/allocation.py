"""Widths by layer and role: the search's, and how they differ from the knapsack's, at the smallest budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from paper import style
from paper.naming import ROLES, bits_title, method_title, model_title, width_names
from paper.study import ALLOCATED, Entry, Study
from ramp.quantizers.widths import Width, grouped, make_menu

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = ("ramp", "knapsack", "ramp_paper", "random_search")
"""Methods in order of preference; of the first two that were run one is drawn, and its difference from the other."""


def allocation(study: Study) -> Figure:
    """Draw the reported widths on the source model and their difference from another method's; of seeds the first."""
    parts = [(entry, first_seed(part)) for entry in _entries(study) if (part := reported(study, entry)) is not None]
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
    (entry, bits), *others = maps
    image = _map(axes[0], bits, cmap="viridis", norm=norm)
    axes[0].set_title(_title(entry, parts[0][1]), loc="left")
    for axis, (other, theirs) in zip(axes[1:], others, strict=True):
        _difference(axis, bits - theirs)
        axis.set_title(f"less {_title(other, parts[1][1])}: {_differing(bits, theirs)}", loc="left")
    axes[-1].set_xlabel(f"decoder block of {model_title(study.source)}, from 0")
    bar = figure.colorbar(image, ax=axes, ticks=levels, shrink=0.8, pad=0.015)
    bar.set_label("bits per weight; after a g, group size" if ranks else "bits per weight")
    if ranks:
        bar.set_ticklabels([str(width) for width in ranks])
    return figure


def _map(axis: Any, values: np.ndarray, **colours: Any) -> Any:
    """Draw one cell per linear, roles below each other."""
    layers, roles = np.arange(values.shape[1] + 1) - 0.5, np.arange(len(ROLES) + 1) - 0.5
    image = axis.pcolormesh(layers, roles, values, edgecolors="white", linewidth=0.3, **colours)
    axis.set_yticks(range(len(ROLES)), ROLES)
    axis.invert_yaxis()
    axis.grid(False)
    axis.set_ylabel("linear")
    axis.xaxis.get_major_locator().set_params(integer=True)
    return image


def _difference(axis: Any, change: np.ndarray) -> None:
    """Draw how widths differ: orange above 0, dark blue below it, each with its number, grey where nothing differs."""
    from matplotlib.colors import ListedColormap

    _map(axis, np.sign(change), cmap=ListedColormap([style.BLUE, "#ececec", style.ORANGE]), vmin=-1, vmax=1)
    for role, layer in zip(*np.nonzero(np.nan_to_num(change)), strict=True):
        number, colour = f"{change[role, layer]:+.0f}", "black" if change[role, layer] > 0 else "white"
        axis.text(layer, role, number.replace("-", "−"), ha="center", va="center", fontsize=6, color=colour)


def _differing(bits: np.ndarray, theirs: np.ndarray) -> str:
    known = np.isfinite(bits) & np.isfinite(theirs)
    return f"{int((bits != theirs)[known].sum())} of {int(known.sum())} linears differ"


def first_seed(part: pd.DataFrame) -> pd.DataFrame:
    """Return the linears of one allocation, that of the least seed: a mean of several is none that a method found."""
    return part[part["seed"] == part["seed"].min()]


def _title(entry: Entry, part: pd.DataFrame) -> str:
    seeds = f", seed {part['seed'].iloc[0]} of {len(entry.records)}" if len(entry.records) > 1 else ""
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
    """Return the bits of an allocation, or the ``ranks`` of its widths with groups, [roles, layers].

    NaN where a model has no such linear.
    """
    values = [ranks[width] for width in width_names(part)] if ranks else part["bits"].astype("float64")
    found = np.full((len(ROLES), int(part["layer"].max()) + 1), np.nan)
    for role, layer, value in zip(part["role"], part["layer"], values, strict=True):
        found[ROLES.index(str(role)), int(layer)] = value
    return found
