"""The league's anytime curves: held-out KL of the search's best against evaluations spent, bands over seeds."""

from __future__ import annotations

import textwrap
from math import inf
from typing import TYPE_CHECKING, Any

from paper import style
from paper.anytime_curves import mean_curve
from paper.banks import Banks
from paper.league import League
from paper.naming import bits_title, model_title
from paper.study import Study
from paper.words import plural
from ramp.methods.names import BAR

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BUDGETS = 3
"""Panels per model: its lowest, middle and highest budget."""

ALIKE = 1e-6
"""Relative difference up to which two ends are one, and have one label."""

COLUMNS = 2

VIEW = 1.3
"""Top of a panel as a multiple of the knapsack's KL: methods above are named there, their numbers are in the table."""

DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
"""Lines of allocators that need no search and have one colour."""


def anytime(study: Study) -> Figure:
    """Draw the mean over seeds of the held-out KL, its range as a band, the start marked; a line without search.

    Panels whose searches end closer to each other than rounding redrawn moves a KL are left out and named below.
    """
    league = League(study)
    curves = league.curves
    if not league.is_there or curves is None:
        return style.sentence("No league is in these records.")
    panels = [(model, budget) for model in league.models for budget in spread(_searched(league, model))]
    if not panels:
        return style.sentence("Nothing searched in the league of these records.")
    floor = redrawn(study)
    apart = {panel: _apart(league, *panel) for panel in panels}
    panels = [panel for panel in panels if apart[panel] > floor]
    left_out = _left_out({panel: share for panel, share in apart.items() if panel not in panels}, floor)
    if not panels:
        return style.sentence(left_out)
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    names = league.rivals()
    looks = style.distinct(names)
    levels = [name for name in names if any(league.level(*panel, name) is not None for panel in panels)]
    dashes = _dashes(levels, looks)
    figure, axes = style.canvas(2.9 * rows, rows, columns)
    for place, axis in enumerate(axes):
        if place >= len(panels):
            axis.set_axis_off()
            continue
        model, budget = panels[place]
        part = _at(curves, model, budget)
        ends: dict[str, tuple[float, float]] = {}
        last = float(part["run_evals"].max())  # a curve holds changes alone: one may have ended long before
        for name in league.allocators(model):
            level = league.level(model, budget, name)
            if level is not None:
                axis.axhline(level, color=looks[name][0], linestyle=dashes[name], linewidth=1)
                ends[name] = last, level
            elif (end := _draw(axis, part[part["allocator"] == name], looks[name])) is not None:
                ends[name] = end
        _evaluations(axis, last)
        shown = _view(axis, {name: end for name, (_, end) in ends.items()})
        above = style.named_above(axis, [league.title(name) for name in ends if name not in shown])
        labels = _labels([(*ends[name], league.title(name), looks[name][0]) for name in shown])
        style.direct_labels(axis, [*labels, *above])
        axis.set_title(f"{model_title(model)}, {bits_title(budget)} bits")
        if place % columns == 0:
            axis.set_ylabel("held-out KL\n(nats per token)")
        if place >= len(panels) - columns:
            axis.set_xlabel("evaluations on search text")
    if left_out:
        figure.supxlabel(left_out, fontsize=7, color=style.GREY)
    return figure


def redrawn(study: Study) -> float:
    """Return the largest spread of one allocation's KL over banks, as a share of its mean; 0 where none is known."""
    banks = Banks(study)
    spreads = [
        banks.spread(model, budget, method, one_allocation=True)
        for model in banks.models
        for budget in banks.budgets(model)
        for method in banks.methods(model, budget)
    ]
    return max((spread for spread in spreads if spread is not None), default=0.0)


def _at(curves: pd.DataFrame, model: str, budget: float) -> pd.DataFrame:
    return curves[(curves["model"] == model) & ((curves["budget_bits"] - budget).abs() < 1e-9)]


def _apart(league: League, model: str, budget: float) -> float:
    """Return by how much the highest mean end of the searches of a panel lies above the lowest, as a share of it."""
    assert league.curves is not None  # asked of a league with curves
    part = _at(league.curves, model, budget)
    searches = [name for name in league.allocators(model) if league.level(model, budget, name) is None]
    runs = [part[part["allocator"] == name] for name in searches]
    ends = [float(mean_curve(run)[1][-1]) for run in runs if not run.empty]
    return max(ends) / min(ends) - 1 if len(ends) > 1 else inf


def _left_out(panels: dict[tuple[str, float], float], floor: float) -> str:
    """Return a sentence on panels without a difference; nothing where there is none."""
    if not panels:
        return ""
    names = "; ".join(f"{model_title(model)}, {bits_title(budget)} bits" for model, budget in panels)
    moved = f" (rounding redrawn: {100 * floor:.1f} %)" if floor else ""
    return textwrap.fill(
        f"{plural(len(panels), 'panel')} left out, where all searches end within "
        f"{100 * max(panels.values()):.1f} % of each other{moved}: {names}.",
        110,
    )


def _labels(ends: list[tuple[float, float, str, str]]) -> list[tuple[float, float, str, str]]:
    """Return the labels of lines by their ends; lines that end alike share one, in black."""
    groups: list[list[tuple[float, float, str, str]]] = []
    for end in sorted(ends, key=lambda end: end[1]):
        alike = groups and end[1] <= groups[-1][0][1] * (1 + ALIKE)
        groups[-1].append(end) if alike else groups.append([end])
    return [
        group[0] if len(group) == 1 else (group[0][0], group[0][1], _together(group), style.BLACK) for group in groups
    ]


def _together(group: list[tuple[float, float, str, str]]) -> str:
    return textwrap.fill("alike: " + ", ".join(name for _, _, name, _ in group), 28)


def _dashes(levels: list[str], looks: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return a line style for each of ``levels``, no two alike in one colour."""
    seen: dict[str, int] = {}
    found: dict[str, Any] = {}
    for name in levels:
        colour = looks[name][0]
        found[name] = DASHES[seen.get(colour, 0) % len(DASHES)]
        seen[colour] = seen.get(colour, 0) + 1
    return found


def _searched(league: League, model: str) -> list[float]:
    """Return the budgets of a model at which something searched: elsewhere every line is level."""
    assert league.curves is not None  # asked of a league with curves
    own = league.curves[league.curves["model"] == model]
    own = own[own["allocator"].isin(league.allocators(model))]
    searched = {
        float(budget)
        for (budget, name), _ in own.groupby(["budget_bits", "allocator"])
        if league.level(model, float(budget), str(name)) is None
    }
    return [budget for budget in league.budgets(model) if budget in searched]


def _view(axis: Any, ends: dict[str, float]) -> list[str]:
    """Show what lies below ``VIEW`` times the knapsack's KL; return what ends there."""
    if BAR not in ends:
        style.log_axis(axis)
        return list(ends)
    top, low = VIEW * ends[BAR], min(ends.values())
    axis.set_ylim(low - 0.12 * (top - low), top)
    return [name for name, end in ends.items() if end <= top]


def spread(budgets: list[float]) -> list[float]:
    """Return the lowest, the middle and the highest of some budgets."""
    if len(budgets) <= BUDGETS:
        return budgets
    return [budgets[0], budgets[len(budgets) // 2], budgets[-1]]


def _evaluations(axis: Any, last: float) -> None:
    """Make the x axis a logarithmic one of counts, with plain numbers, that ends at its own ``last`` evaluation."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    axis.set_xscale("log")
    axis.set_xlim(right=last)
    axis.xaxis.set_major_locator(FixedLocator([*(10**power for power in range(9) if 2 * 10**power < last), last]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _draw(axis: Any, curves: pd.DataFrame, look: tuple[str, str]) -> tuple[float, float] | None:
    """Draw one allocator's longest runs; return where their mean ends, or None where there is no run."""
    if curves.empty:
        return None
    colour, marker = look
    at, mean, low, high, seeds = mean_curve(curves)
    axis.step(at, mean, where="post", color=colour, linewidth=1.2)
    if seeds > 1:
        axis.fill_between(at, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    axis.plot(at[0], mean[0], marker=marker, color=colour, markersize=5)
    return float(at[-1]), float(mean[-1])
