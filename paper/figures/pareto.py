"""KL at equal bytes: each row's KL over that of uniform 4 bits, against the bytes of its linears; a panel per model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paper import style
from paper.comparisons import pair
from paper.figures.transfer import transferred
from paper.naming import REFERENCE_BITS, UNIFORM_METHODS, bits_title, method_rank, method_title, model_title
from paper.study import Entry, Study
from ramp.methods.names import BAR

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ramp.evaluation.bootstrap import Estimate

REFERENCES = ("awq_gptq", "awq", "gptq", "rtn", "uniform")
"""Uniform methods whose 4-bit row is what others are divided by: the first that the study has."""

VIEW = 2.0
"""Top of a panel, as a ratio: rows above are named there, their numbers are in the table."""


@dataclass(frozen=True)
class Point:
    """One row of a panel."""

    entry: Entry
    size: float  # bytes of the packed linears over those of the reference
    ratio: Estimate  # of the KL, paired on the same windows


def pareto(study: Study) -> Figure:
    """Draw final affine rows by method; a line joins the budgets of one method, bars are paired intervals.

    Rows of other packages and of controls with smaller groups are left to the tables, models to which a policy was
    transferred to their own figure. Budgets of mixed rows are named above the panel.
    """
    elsewhere = transferred(study)
    panels = {model: _points(study, model) for model in study.models if model not in elsewhere}
    panels = {model: points for model, points in panels.items() if points}
    if not panels:
        return style.sentence("The records hold no rows beside a uniform one of 4 bits on the same windows.")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = style.canvas(3.4 * rows, rows, columns)
    for axis, (model, points) in zip(axes, panels.items(), strict=False):
        _panel(axis, points)
        axis.set_title(f"{model_title(model)} over {reference(study, model).title}", fontsize=8, pad=18)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    axes[0].set_ylabel("KL over that of a uniform row of 4 bits")
    return figure


def reference(study: Study, model: str) -> Entry | None:
    """Return the uniform 4-bit row of a model that others are divided by; None where the study has none."""
    return next((entry for name in REFERENCES if (entry := study.one(model, name, REFERENCE_BITS))), None)


def _points(study: Study, model: str) -> list[Point]:
    rival, found = reference(study, model), []
    if rival is None:
        return []
    for entry in study.find(model):
        compared = pair(study, entry, rival, study.primary_text)
        size, whole = entry.mean("bytes_linear"), rival.mean("bytes_linear")
        alike = entry.group_size == rival.group_size and not entry.is_external
        if alike and compared and compared.kl_ratio and size and whole:
            found.append(Point(entry, size / whole, compared.kl_ratio))
    return found


def _panel(axis: Any, points: Sequence[Point]) -> None:
    methods = sorted({point.entry.method for point in points}, key=method_rank)
    looks = style.distinct(methods)
    shown = [point for point in points if point.ratio.value <= VIEW] or points
    ends, above = [], []
    for method in methods:
        line = sorted((point for point in points if point.entry.method == method), key=lambda point: point.size)
        colour, marker = looks[method]
        uniform = method in UNIFORM_METHODS
        xs, ys = [100 * point.size for point in line], [point.ratio.value for point in line]
        # an open ring around what lies on it
        under = {"marker": "o", "markersize": 11, "markerfacecolor": "none"} if method == BAR else {"marker": marker}
        axis.plot(xs, ys, color=colour, linewidth=0.8, linestyle="--" if uniform else "-", **under)
        for x, point in zip(xs, line, strict=True):
            if point in shown and point.ratio.low is not None and point.ratio.low > 0:
                axis.vlines(x, point.ratio.low, point.ratio.high, color=colour, linewidth=1.6, alpha=0.5)
        if seen := [point for point in line if point in shown]:
            ends.append((100 * seen[-1].size, seen[-1].ratio.value, method_title(method), colour))
        else:
            above.append(method_title(method))
    axis.axhline(1, color=style.BLACK, linewidth=0.6)
    _view(axis, shown)
    _budgets(axis, shown)
    axis.set_xlabel("linears (% of the bytes at uniform 4 bits)")
    style.direct_labels(axis, [*ends, *style.named_above(axis, above)])


def _budgets(axis: Any, shown: Sequence[Point]) -> None:
    """Name the budgets of the mixed rows above the panel, at their bytes."""
    sizes = {point.entry.budget_bits: 100 * point.size for point in shown if not point.entry.is_uniform}
    for bits, size in sizes.items():
        axis.axvline(size, color=style.GREY, linewidth=0.5, linestyle=":", zorder=0)
        axis.annotate(
            f"{bits_title(bits)} bits",
            (size, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=style.GREY,
        )


def _view(axis: Any, shown: Sequence[Point]) -> None:
    """Show some rows with a margin; lines to other rows leave the panel."""
    sizes = [100 * point.size for point in shown]
    margin = 0.08 * (max(sizes) - min(sizes)) or 1.0
    axis.set_xlim(min(sizes) - margin, max(sizes) + margin)
    low = min(point.ratio.low if point.ratio.low and point.ratio.low > 0 else point.ratio.value for point in shown)
    high = max(point.ratio.value for point in shown)
    axis.set_ylim(0.95 * min(low, 1), 1.05 * max(high, 1))
    style.log_axis(axis)
