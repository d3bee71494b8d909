"""The league's anytime curves: held-out KL of the search's best against evaluations spent, bands over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paper import style
from paper.anytime_curves import mean_curve
from paper.league import League
from paper.naming import bits_title, model_title
from paper.study import Study
from ramp.methods.names import BAR

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BUDGETS = 3
"""Panels per model: its lowest, middle and highest budget."""

COLUMNS = 2

VIEW = 1.3
"""Top of a panel as a multiple of the knapsack's KL: methods above are named there, their numbers are in the table."""

DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
"""Lines of allocators that need no search and have one colour."""


def anytime(study: Study) -> Figure:
    """Draw the mean over seeds of the held-out KL, its range as a band, the start marked; a line without search."""
    league = League(study)
    curves = league.curves
    if not league.is_there or curves is None:
        return style.sentence("No league is in these records.")
    panels = [(model, budget) for model in league.models for budget in spread(_searched(league, model))]
    if not panels:
        return style.sentence("Nothing searched in the league of these records.")
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    names = league.rivals()
    looks = style.distinct(names)
    levels = [name for name in names if any(league.level(*panel, name) is not None for panel in panels)]
    dashes = _dashes(levels, looks)
    figure, axes = style.canvas(2.5 * rows, rows, columns)
    for place, axis in enumerate(axes):
        if place >= len(panels):
            axis.set_axis_off()
            continue
        model, budget = panels[place]
        part = curves[(curves["model"] == model) & ((curves["budget_bits"] - budget).abs() < 1e-9)]
        ends: dict[str, float] = {}
        last = float(part["run_evals"].max())  # a curve holds changes alone: one may have ended long before
        for name in league.allocators(model):
            level = league.level(model, budget, name)
            if level is not None:
                axis.axhline(level, color=looks[name][0], linestyle=dashes[name], linewidth=1)
                ends[name] = level
            elif (end := _draw(axis, part[part["allocator"] == name], looks[name])) is not None:
                ends[name] = end
        _evaluations(axis)
        shown = _view(axis, league, ends)
        axis.set_xlim(right=last)
        style.direct_labels(axis, [(last, ends[name], league.title(name), looks[name][0]) for name in shown])
        axis.set_title(f"{model_title(model)}, {bits_title(budget)} bits")
        if place % columns == 0:
            axis.set_ylabel("held-out KL\n(nats per token)")
        if place >= len(panels) - columns:
            axis.set_xlabel("evaluations on search text")
    return figure


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


def _view(axis: Any, league: League, ends: dict[str, float]) -> list[str]:
    """Show what lies below ``VIEW`` times the knapsack's KL, and name what ends above; return what is shown."""
    if BAR not in ends:
        style.log_axis(axis)
        return list(ends)
    top, low = VIEW * ends[BAR], min(ends.values())
    axis.set_ylim(low - 0.12 * (top - low), top)
    above = [league.title(name) for name, end in ends.items() if end > top]
    if above:
        style.named_above(axis, above)
    return [name for name, end in ends.items() if end <= top]


def spread(budgets: list[float]) -> list[float]:
    """Return the lowest, the middle and the highest of some budgets."""
    if len(budgets) <= BUDGETS:
        return budgets
    return [budgets[0], budgets[len(budgets) // 2], budgets[-1]]


def _evaluations(axis: Any) -> None:
    """Make the x axis a logarithmic one of counts, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1,), numticks=12))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _draw(axis: Any, curves: pd.DataFrame, look: tuple[str, str]) -> float | None:
    """Draw one allocator's longest runs; return where their mean ends, or None where there is no run."""
    if curves.empty:
        return None
    colour, marker = look
    at, mean, low, high, seeds = mean_curve(curves)
    axis.step(at, mean, where="post", color=colour, linewidth=1.2)
    if seeds > 1:
        axis.fill_between(at, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    axis.plot(at[0], mean[0], marker=marker, color=colour, markersize=5)
    return float(mean[-1])
