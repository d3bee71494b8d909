"""Perplexity against the bytes of the file, one panel per model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paper import style
from paper.naming import UNIFORM_METHODS, method_rank, method_title, model_title, text_title
from paper.study import Entry, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LONG_TITLE = 22
"""Letters of a method's title above which four columns do not fit the page."""


def pareto(study: Study) -> Figure:
    """Draw final affine rows (filled) and exported ggml rows (hollow); the float model is the dashed line.

    Rows of other packages are left to the table: most lie on top of our own row of the same method.
    """
    text = study.primary_text
    panels = {model: _points(study, model, text) for model in study.models}
    panels = {model: points for model, points in panels.items() if points}
    if not panels:
        return style.sentence(f"The records hold no row with both a file size and a perplexity on {text_title(text)}.")
    rows = -(-len(panels) // 2)
    entries = [entry for points in panels.values() for entry, *_ in points]
    seen = sorted({entry.method for entry in entries}, key=method_rank)
    exported = any(entry.grid == "ggml" for entry in entries)
    ncols = 3 if any(len(method_title(method)) > LONG_TITLE for method in seen) else 4
    legend_rows = -(-(len(seen) + 1 + exported) // ncols)
    figure, axes = style.canvas(2.9 * rows + 0.5 + 0.16 * max(legend_rows - 4, 0), rows, min(2, len(panels)))
    for axis, (model, points) in zip(axes, panels.items(), strict=False):
        _panel(axis, study, model, points, text)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    filled = {entry.method for entry in entries if entry.grid != "ggml"}
    handles: list[Any] = [style.method_handle(method, hollow=method not in filled) for method in seen]
    handles += _more_handles(exported)  # after the canvas set its style
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols)
    return figure


Point = tuple[Entry, float, Any]


def _points(study: Study, model: str, text: str) -> list[Point]:
    found = []
    for entry in study.find(model, grid=None):
        size, ppl = entry.mean("bytes_file"), study.measured(entry, text, "ppl")
        if size and ppl and not entry.is_external:
            found.append((entry, size / 1e6, ppl))
    return found


def _panel(axis: Any, study: Study, model: str, points: list[Point], text: str) -> None:
    for entry, size, ppl in points:
        colour, marker = style.look(entry.method)
        if ppl.low is not None:
            axis.vlines(size, ppl.low, ppl.high, color=colour, linewidth=0.8, alpha=0.35, zorder=1)
        hollow = {"markerfacecolor": "none"} if entry.grid == "ggml" else {}
        axis.plot(size, ppl.value, marker=marker, color=colour, linestyle="none", **hollow)
    for method in UNIFORM_METHODS:
        line = sorted(
            (size, ppl.value) for entry, size, ppl in points if entry.method == method and entry.grid == "affine"
        )
        axis.plot(*zip(*line, strict=True), color=style.look(method)[0], linewidth=0.8, zorder=1) if line else None
    reference = study.float_entry(model)
    ppl = study.measured(reference, text, "ppl") if reference else None
    if ppl:
        axis.axhline(ppl.value, color=style.BLACK, linestyle="--", linewidth=0.8)
    style.log_axis(axis)
    axis.set_title(model_title(model))
    axis.set_xlabel("file (MB = 1e6 bytes)")
    axis.set_ylabel(f"perplexity, {text_title(text)}")


def _more_handles(exported: bool) -> list[Any]:
    handles = [style.handle("float model", style.BLACK, linestyle="--", linewidth=0.8)]
    if exported:
        dot = {"marker": "o", "markerfacecolor": "none", "linestyle": "none"}
        handles.append(style.handle("hollow: exported, ggml grid", style.GREY, **dot))
    return handles
