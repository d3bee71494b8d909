"""Transfer: KL of every mixed row on each target, with intervals, and uniform 4 bit beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paper import style
from paper.naming import UNIFORM_METHODS, bits_title, method_rank, method_title, model_title, text_title
from paper.study import Entry, Study
from ramp.methods.names import trained_by

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def transfer(study: Study) -> Figure:
    """Draw a panel per target; a row per method and budget, best at the top of its budget's group."""
    text, panels = study.primary_text, transferred(study)
    if not panels:
        return style.sentence("No policy was transferred to another model in this run.")
    tallest = max(len(entries) for entries in panels.values())
    figure, axes = style.canvas(0.26 * tallest * len(panels) + 0.6 + 0.3 * len(panels), len(panels), 1)
    for axis, (model, entries) in zip(axes, panels.items(), strict=True):
        _panel(axis, study, model, entries, text)
    axes[-1].set_xlabel(f"KL to the float model, {text_title(text)} (nats per token; lower is better)")
    return figure


def transferred(study: Study) -> dict[str, list[Entry]]:
    """Return the measured rows of every model to which something trained on the source was transferred."""
    rows = {model: _entries(study, model, study.primary_text) for model in study.models if model != study.source}
    return {model: entries for model, entries in rows.items() if any(trained_by(entry.method) for entry in entries)}


def _entries(study: Study, model: str, text: str) -> list[Entry]:
    mixed = [e for e in study.find(model) if e.is_quantized and not e.is_uniform]
    uniform = [e for method in UNIFORM_METHODS for e in study.find(model, method, 4.0)]
    shown = [e for e in mixed + uniform if study.measured(e, text, "kl")]
    return sorted(shown, key=lambda e: (e.method in UNIFORM_METHODS, e.budget_bits, method_rank(e.method)))


def _panel(axis: Any, study: Study, model: str, entries: list[Entry], text: str) -> None:
    labels = []
    for place, entry in enumerate(entries):
        kl = study.measured(entry, text, "kl")
        if kl is None:
            continue
        colour, marker = style.look(entry.method)
        if kl.low is not None:
            axis.hlines(place, kl.low, kl.high, color=colour, linewidth=1.2)
        axis.plot(kl.value, place, marker=marker, color=colour, linestyle="none")
        uniform = "uniform " if entry.method in UNIFORM_METHODS else ""
        labels.append(f"{uniform}{method_title(entry.method)}, {bits_title(entry.budget_bits)} bits")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.set_title(f"{model_title(model)} (policy trained on {model_title(study.source)})", loc="left")
