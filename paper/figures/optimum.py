"""Gaps to the exact optimum: one panel per problem, one line per allocator, a dot per budget and seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paper import style
from paper.naming import bits_title, method_rank, model_title
from paper.study import Study
from paper.tables.optimum import allocator_title, units_title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LINEAR_BELOW = 0.1
"""Per cent below which the axis is linear, so that a gap of zero is on it."""

COLOURS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.BLACK)


def optimum(study: Study) -> Figure:
    """Draw the gap in per cent of the optimum's KL; hollow at the first checkpoint, full at the last."""
    frame = study.frame("optimum")
    if frame is None:
        return style.sentence("No exact optimum is in these records.")
    problems = sorted({(str(m), str(u)) for m, u in zip(frame["model"], frame["units"], strict=True)})
    names = sorted(frame["allocator"].unique(), key=method_rank, reverse=True)
    budgets = sorted(frame["budget_bits"].unique())
    figure, axes = style.canvas(1.1 + 0.3 * len(names), 1, len(problems), sharey=True, sharex=True)
    for axis, (model, units) in zip(axes, problems, strict=True):
        part = frame[(frame["model"] == model) & (frame["units"] == units)]
        for index, bits in enumerate(budgets):
            _dots(axis, part[part["budget_bits"] == bits], names, index, len(budgets))
        axis.set_xscale("symlog", linthresh=LINEAR_BELOW)
        axis.set_xlim(left=-0.02)
        _plain_ticks(axis)
        axis.set_title(f"{model_title(model)}, {units_title(units)}")
        axis.set_xlabel("gap to the optimum (% of its KL)")
    titles = {name: _title(frame, name) for name in names}
    axes[0].set_ylim(-0.6, len(names) - 0.4)
    axes[0].set_yticks(range(len(names)), [titles[name] for name in names])
    figure.legend(handles=_handles(budgets), loc="outside lower center", ncols=5)
    return figure


def _title(frame: pd.DataFrame, name: str) -> str:
    return allocator_title(frame[frame["allocator"] == name]["title"].iloc[0], name)


def _dots(axis: Any, part: pd.DataFrame, names: list[str], index: int, count: int) -> None:
    colour = COLOURS[index % len(COLOURS)]
    for line, name in enumerate(names):
        rows = part[(part["allocator"] == name) & part["gap_share"].notna()]
        if rows.empty:
            continue
        height = line + 0.5 * (index - (count - 1) / 2) / max(count, 1)
        for evals, style_of in ((rows["evals"].min(), "none"), (rows["evals"].max(), colour)):
            gaps = 100 * rows[rows["evals"] == evals]["gap_share"].astype("float64")
            axis.plot(
                gaps, [height] * len(gaps), "o", color=colour, markerfacecolor=style_of, markersize=4, clip_on=False
            )


def _plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    high = axis.get_xlim()[1]
    ticks = [tick for tick in (0, 0.1, 1, 10, 100, 1000) if tick <= max(high, 0.1)]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _handles(budgets: list[float]) -> list[Any]:
    dot = {"marker": "o", "linestyle": "none"}
    handles = [
        style.handle(f"{bits_title(bits)} bits", COLOURS[index % len(COLOURS)], **dot)
        for index, bits in enumerate(budgets)
    ]
    for face, label in (("none", "first checkpoint"), (style.GREY, "last checkpoint")):
        handles.append(style.handle(label, style.GREY, markerfacecolor=face, **dot))
    return handles
