"""KL against the bytes of GGUF files: llama.cpp's mixes, and ours at the bytes of each; one panel per model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paper import style
from paper.gguf import MIX_LOOKS, Files, Line
from paper.naming import model_title
from paper.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABEL_ROOM = 0.08
"""Share of the figure's width that the name of a mix takes."""

OUR_LOOKS = ((style.GREEN, "v"), (style.VERMILION, "X"), (style.PURPLE, "P"), (style.BLACK, "o"))


def frontier(study: Study) -> Figure:
    """Draw the mixes as labelled points and ours as lines; bars are intervals over windows."""
    files = Files(study)
    if not files.lines:
        return style.sentence("The records hold no files at the bytes of llama.cpp's mixes.")
    titles = list(dict.fromkeys(title for model in files.models for title in files.frontiers(model)))
    looks = dict(zip(titles, OUR_LOOKS * len(titles), strict=False))
    columns = min(2, len(files.models))
    rows = -(-len(files.models) // columns)
    figure, axes = style.canvas(3.1 * rows + 0.4, rows, columns)
    for axis, model in zip(axes, files.models, strict=False):
        for matrix, (colour, marker, _) in MIX_LOOKS.items():
            _points(axis, [line for line in files.mixes(model) if line["matrix"] == matrix], colour, marker)
        for title, lines in files.frontiers(model).items():
            _points(axis, lines, *looks[title], linestyle="-")
        style.log_axis(axis)
        _labels(axis, files.mixes(model), LABEL_ROOM * columns)
        axis.set_title(model_title(model))
        axis.set_xlabel("file (MB = 1e6 bytes)")
    for axis in axes[len(files.models) :]:
        axis.set_axis_off()
    axes[0].set_ylabel("KL to the float model (nats per token)")
    handles = [style.handle(label, colour, marker=mark, linestyle="none") for colour, mark, label in MIX_LOOKS.values()]
    handles += [style.handle(title, colour, marker=marker) for title, (colour, marker) in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _points(axis: Any, lines: list[Line], colour: str, marker: str, linestyle: str = "none") -> None:
    if not lines:
        return
    sizes, kls = [line["bytes_file"] / 1e6 for line in lines], [float(line["kl"]) for line in lines]
    for size, line in zip(sizes, lines, strict=True):
        if line["kl_low"] == line["kl_low"] and line["kl_low"] > 0:  # NaN without an interval
            axis.vlines(size, line["kl_low"], line["kl_high"], color=colour, linewidth=1.2, zorder=3)
    axis.plot(sizes, kls, color=colour, marker=marker, markersize=4, linestyle=linestyle, linewidth=1)


def _labels(axis: Any, mixes: list[Line], room: float) -> None:
    """Name every mix once, above its points; names that would overlap (``room`` of the width) stand on each other."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    groups: list[list[Line]] = []
    for line in mixes:
        near = groups and (line["bytes_file"] - groups[-1][0]["bytes_file"]) / 1e6 < room * (right - left)
        if near:
            groups[-1].append(line)
        else:
            groups.append([line])
    for lines in groups:
        names = "\n".join(dict.fromkeys(str(line["method"]) for line in lines))
        tops = [float(line[key]) for line in lines for key in ("kl", "kl_high") if line[key] == line[key]]
        axis.annotate(
            names,
            (lines[0]["bytes_file"] / 1e6, max(tops)),
            xytext=(0, 7),
            textcoords="offset points",
            fontsize=6.5,
            ha="center",
        )
    axis.set_ylim(low, high * (high / low) ** 0.12)  # room for the names
