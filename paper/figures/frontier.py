"""KL against the bytes of GGUF files: llama.cpp's mixes, and ours at the bytes of each; one panel per model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper import style
from paper.gguf import MIX_LOOKS, Files, Line
from paper.naming import model_title
from paper.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABEL_ROOM = 0.08
"""Share of the figure's width that the name of a mix takes."""

_LINE = 0.05
"""Height of a name as a share of the axis's."""

OUR_LOOKS = ((style.GREEN, "v"), (style.VERMILION, "X"), (style.PURPLE, "P"), (style.BLACK, "o"))


def frontier(study: Study) -> Figure:
    """Draw the mixes as labelled points, ours as lines and the size of the file as it was released."""
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
        _released(axis, study, model)
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
    axis.plot(sizes, kls, color=colour, marker=marker, markersize=4, linestyle=linestyle, linewidth=1)


def _labels(axis: Any, mixes: list[Line], room: float) -> None:
    """Name every mix above its points, at each of its sizes; of names that would overlap the later stands higher."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    points: dict[tuple[str, float], float] = {}
    for line in mixes:
        place = str(line["method"]), line["bytes_file"] / 1e6
        points[place] = max(points.get(place, 0.0), float(line["kl"]))
    raised: list[tuple[float, float]] = []  # where names stand: size, KL
    for (name, size), kl in sorted(points.items(), key=lambda point: point[1]):
        while any(abs(size - x) < room * (right - left) and abs(np.log(kl / y)) < _LINE * np.log(high / low)
                  for x, y in raised):  # fmt: skip
            kl *= (high / low) ** (_LINE / 4)
        raised.append((size, kl))
        axis.annotate(name, (size, kl), xytext=(0, 7), textcoords="offset points", fontsize=6.5, ha="center")
    axis.set_ylim(low, high * (high / low) ** 0.12)  # room for the names


def _released(axis: Any, study: Study, model: str) -> None:
    """Mark the bytes of the model's file as it was released, which is the float model, where files are of its size."""
    low, high = axis.get_xlim()
    for entry in study.find(model, "released", grid=None, stage=None):
        size = entry.mean("bytes_file")
        if size is not None and low <= size / 1e6 <= high:
            axis.axvline(size / 1e6, color=style.BLACK, linewidth=0.9, linestyle=":")
            axis.annotate(
                f"released {entry.track} file,\nKL 0 by definition",
                (size / 1e6, 0.04),
                xycoords=("data", "axes fraction"),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=6.5,
            )
