"""The league's anytime curves: held-out KL of the search's best against evaluations spent, bands over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper import style
from paper.league import League, curve_at
from paper.naming import bits_title, model_title
from paper.study import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

POINTS = 60
"""Evaluations at which the mean over seeds is drawn, log-spaced."""

BUDGETS = 3
"""Panels per model: its lowest, middle and highest budget."""


def anytime(study: Study) -> Figure:
    """Mean over seeds of the held-out KL, its range as a band, the start marked; a line for what needs no search."""
    league, curves = League(study), study.frame("league_curves")
    if not league.is_there or curves is None:
        return style.sentence("No league is in these records.")
    models = league.models
    budgets = {model: spread(league.budgets(model)) for model in models}
    columns = max(len(each) for each in budgets.values())
    figure, axes = style.canvas(0.5 + 2.1 * len(models), len(models), columns, sharex="row")
    names = list(dict.fromkeys(name for model in models for name in league.allocators(model)))
    looks = style.distinct(names)
    for row, model in enumerate(models):
        for column in range(columns):
            axis = axes[row * columns + column]
            if column >= len(budgets[model]):
                axis.set_axis_off()
                continue
            budget = budgets[model][column]
            part = curves[(curves["model"] == model) & ((curves["budget_bits"] - budget).abs() < 1e-9)]
            for name in league.allocators(model):
                level = league.level(model, budget, name)
                if level is not None:
                    axis.axhline(level, color=looks[name][0], linestyle="--", linewidth=1)
                else:
                    _draw(axis, part[part["allocator"] == name], looks[name])
            style.log_axis(axis)
            _evaluations(axis)
            axis.set_title(f"{model_title(model)}\n{bits_title(budget)} bits")
            if column == 0:
                axis.set_ylabel("held-out KL\n(nats per token)")
            if row == len(models) - 1:
                axis.set_xlabel("evaluations on search text")
    levels = {name for name in names if any(league.level(m, b, name) is not None for m in models for b in budgets[m])}
    figure.legend(handles=_handles(league, names, looks, levels), loc="outside lower center", ncols=4)
    return figure


def spread(budgets: list[float]) -> list[float]:
    """The lowest, the middle and the highest of some budgets."""
    if len(budgets) <= BUDGETS:
        return budgets
    return [budgets[0], budgets[len(budgets) // 2], budgets[-1]]


def _evaluations(axis: Any) -> None:
    """A logarithmic axis of counts, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _draw(axis: Any, curves: pd.DataFrame, look: tuple[str, str]) -> None:
    """One allocator: its longest runs."""
    if curves.empty:
        return
    colour, marker = look
    curves = curves[curves["run_evals"] == curves["run_evals"].max()]
    runs = [run for _, run in curves.groupby("seed")]
    last = int(curves["run_evals"].max())
    first = max(int(run["evals"].min()) for run in runs)  # from here on every seed has an incumbent
    at = np.unique(np.round(np.geomspace(first, max(last, first), POINTS)).astype(int))
    values = np.stack([curve_at(run, at) for run in runs])  # (seeds, points)
    axis.step(at, values.mean(axis=0), where="post", color=colour, linewidth=1.2)
    if len(runs) > 1:
        axis.fill_between(
            at, values.min(axis=0), values.max(axis=0), step="post", color=colour, alpha=0.15, linewidth=0
        )
    axis.plot(at[0], values[:, 0].mean(), marker=marker, color=colour, markersize=5, clip_on=False)


def _handles(league: League, names: list[str], looks: dict[str, tuple[str, str]], levels: set[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for name in names:
        colour, marker = looks[name]
        drawn = {"linestyle": "--"} if name in levels else {"marker": marker}
        handles.append(Line2D([], [], color=colour, label=league.title(name), **drawn))
    return handles
