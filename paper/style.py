"""Style of the figures: colours that colour-blind readers can distinguish, sizes for a printed page, stable files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): eight colours distinct under the common colour-vision deficiencies.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#767676"
BROWN = "#7A4A21"
"""A ninth colour, darker than the others: no method shares it."""

METHOD_LOOKS: dict[str, tuple[str, str]] = {
    "released": (BLACK, "*"),
    "float": (BLACK, "_"),
    "rtn": (GREY, "o"),
    "gptq": (ORANGE, "s"),
    "awq": (SKY, "^"),
    "awq_gptq": (BLUE, "D"),
    "gptqmodel_gptq": (ORANGE, "h"),
    "gptqmodel_awq": (SKY, "h"),
    "gptq_g64": (ORANGE, "d"),
    "gptq_g32": (ORANGE, "p"),
    "awq_gptq_g64": (BLUE, "d"),
    "awq_gptq_g32": (BLUE, "p"),
    "random_search": (BLACK, "x"),
    "role_depth": (BROWN, "o"),
    "knapsack": (GREEN, "v"),
    "ppo": (BLACK, "*"),
    "sac_discrete": (ORANGE, ">"),
    "sac_continuous": (SKY, "<"),
    "ramp_paper": (PURPLE, "P"),
    "ramp": (VERMILION, "X"),
    "role_depth_transfer": (BROWN, ">"),
    "ramp_transfer": (VERMILION, ">"),
    "ramp_paper_transfer": (PURPLE, ">"),
    "q3_k_m": (GREY, "<"),
    "q3_k_m_imatrix": (BLACK, "<"),
    "q4_k_s": (GREY, "8"),
    "q4_k_s_imatrix": (BLACK, "8"),
    "q4_k_m": (GREY, "H"),
    "q4_k_m_imatrix": (BLACK, "H"),
}
"""Colour and marker of a method: never colour alone."""

FULL_WIDTH_IN = 6.7
"""Width of the text block on A4, inches: figures are drawn at their printed size."""

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "svg.hashsalt": "paper",
    "pdf.fonttype": 42,
    "figure.dpi": 100,
}


def look(method: str) -> tuple[str, str]:
    """Return colour and marker of a method; those of a user's own methods are the same."""
    return METHOD_LOOKS.get(method, (YELLOW, "h"))


def distinct(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return a look for each of some methods, no two alike: their own if they have one, else of the least used colour.

    RAMP's two colours are RAMP's in every figure.
    """
    looks = {method: METHOD_LOOKS[method] for method in methods if method in METHOD_LOOKS}
    for method in methods:
        if method not in looks:
            used = [colour for colour, _ in looks.values()]
            colour = min((SKY, ORANGE, BLUE, GREY, GREEN, BLACK), key=used.count)
            looks[method] = colour, next(each for each in "sD^<>phd*ovX8H" if (colour, each) not in looks.values())
    return {method: looks[method] for method in methods}


def canvas(height_in: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list]:
    """Return a figure of the text's width with ``rows`` x ``columns`` axes (a flat list)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(RC)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(FULL_WIDTH_IN, height_in), squeeze=False, layout="constrained", **options
    )
    return figure, list(axes.ravel())


def sentence(text: str) -> Figure:
    """Return a panel that says in one sentence why there is nothing to draw."""
    figure, (axes,) = canvas(1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", wrap=True, transform=axes.transAxes)
    return figure


def log_axis(axis: Axes) -> None:
    """Make the y axis logarithmic with plain numbers, more of them the less it spans."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    span = high / low
    subs = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8) if span < 4 else (1, 1.5, 2, 3, 5, 7) if span < 30 else (1, 3)
    axis.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.minorticks_off()


def direct_labels(axis: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float = 0.055) -> None:
    """Write each line's name, which may have several lines, beside the axis, joined with its end; none on another.

    ends: (x, y, name, colour) of each line's end, in data units; gap: least distance of two names as a share of the
        axis's height.
    """
    to_axis = axis.transData + axis.transAxes.inverted()
    placed = sorted(ends, key=lambda end: end[1])
    halves = [0.5 * gap * (name.count("\n") + 1) for _, _, name, _ in placed]
    heights = [float(to_axis.transform((x, y))[1]) for x, y, *_ in placed]
    for index in range(1, len(placed)):  # up from the name below, then down from the top
        heights[index] = max(heights[index], heights[index - 1] + halves[index - 1] + halves[index])
    top = 1 + gap / 2
    for index in reversed(range(len(placed))):
        heights[index] = min(heights[index], top - halves[index])
        top = heights[index] - halves[index]
    for height, (x, y, name, colour) in zip(heights, placed, strict=True):
        axis.annotate(
            name,
            (x, y),
            xytext=(1.04, height),
            textcoords="axes fraction",
            fontsize=7,
            va="center",
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4, "alpha": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def named_above(axis: Axes, names: Sequence[str]) -> list[tuple[float, float, str, str]]:
    """Return one label, for ``direct_labels``, that names what lies above the view of a panel; none without names."""
    words = textwrap.fill(f"above: {', '.join(names)}", 28)
    return [(axis.get_xlim()[1], axis.get_ylim()[1], words, GREY)] if names else []


def handle(label: str, color: str, **drawn: Any) -> Any:
    """Return a legend entry: a line or marker without data."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, label=label, **drawn)


def marked(figure: Figure, missing: Sequence[str]) -> Figure:
    """Return the figure with a line above it that says what its study lacks to be evidence; as it is without."""
    if missing:
        words = textwrap.fill(f"Not evidence: {'; '.join(missing)}", 110)  # as wide as the figure at this size
        figure.suptitle(words, fontsize=7, color=VERMILION)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``{name}.pdf`` and ``{name}.png`` without dates, so that the same records give the same bytes."""
    from matplotlib import pyplot

    from ramp.core.atomic_files import atomic_path

    with atomic_path(folder / f"{name}.pdf") as partial:
        figure.savefig(partial, format="pdf", metadata={"CreationDate": None, "ModDate": None, "Producer": None})
    with atomic_path(folder / f"{name}.png") as partial:
        figure.savefig(partial, format="png", dpi=200, metadata={"Software": None})
    pyplot.close(figure)
