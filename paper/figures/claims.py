"""The paper's claims as a forest plot: where each interval lies beside the limit of its rule."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from paper import style
from paper.claims import CLAIMS_FILE, limit_words, read_claims_file
from paper.study import Study
from paper.words import shown
from ramp.evaluation.bootstrap import Estimate
from ramp.records.schema import NO_EVIDENCE, PARTLY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {
    "replicated": (style.GREEN, "o"),
    "not replicated": (style.VERMILION, "s"),
    PARTLY: (style.PURPLE, "D"),
}
"""Colour and marker of a verdict; every other settles nothing: grey, a cross without evidence, else a hollow circle."""

SIDE = 0.55
"""Where a value without interval stands on its side of the limit, as a share of the axis: how far is not read."""


def claims(study: Study) -> Figure:
    """Draw a line per claim that was measured; each is scaled by itself, so that only the side of its limit is read.

    The side on which a claim holds is the left. What was not tested is named below.
    """
    rules = {claim["id"]: claim for claim in read_claims_file(CLAIMS_FILE)}
    judged = [entry for entry in study.claims or [] if entry["id"] in rules]
    measured = [entry for entry in judged if entry["value"] is not None]
    if not measured:
        return style.sentence("None of the paper's claims was measured in this study.")
    figure, (axis,) = style.canvas(0.36 * len(measured) + 0.7)
    for height, entry in enumerate(reversed(measured)):
        _line(axis, height, entry, rules[entry["id"]])
    axis.axvline(0, color=style.BLACK, linewidth=0.8)
    axis.set(xlim=(-1.1, 1.1), ylim=(-0.7, len(measured) - 0.3), xticks=[-SIDE, 0, SIDE])
    axis.set_xticklabels(["holds", "limit", "fails"])
    axis.set_yticks(range(len(measured)), [_named(rules[entry["id"]]) for entry in reversed(measured)], fontsize=7)
    axis.grid(visible=False)
    others = [entry["id"] for entry in judged if entry["value"] is None]
    if others:
        axis.set_title(f"not tested: {', '.join(others)}", fontsize=7, loc="right")
    return figure


def _line(axis: Any, height: int, entry: Mapping[str, Any], claim: Mapping[str, Any]) -> None:
    direction, limit = next(iter(claim["rule"].items()))
    low, high = entry["margin"] or (entry["value"], entry["value"])
    sign = 1 if direction == "below" else -1
    ends = [sign * (end - limit) for end in (low, entry["value"], high)]
    scale = max(map(abs, ends)) or 1.0
    colour, marker = LOOKS.get(entry["verdict"], (style.GREY, "x" if entry["verdict"] == NO_EVIDENCE else "o"))
    settled, middle = entry["verdict"] in LOOKS, ends[1] / scale
    if entry["margin"]:
        line = {"linewidth": 1.8} if settled else {"linewidth": 0.9, "linestyle": "--"}
        axis.hlines(height, min(ends) / scale, max(ends) / scale, color=colour, **line)
    else:  # anything from one end to the other
        middle *= SIDE
        axis.hlines(height, -1, 1, color=colour, linewidth=0.8, linestyle=":")
    face = colour if settled and entry["margin"] else "white"
    axis.plot(middle, height, marker=marker, color=colour, markersize=5, markerfacecolor=face)
    value = shown(Estimate(entry["value"], *(entry["margin"] or (None, None))), digits=3)
    value += "" if entry["margin"] else " (no interval)"
    text = f"{value}, holds {limit_words(claim)}" if "limit" not in claim else f"{value}, {limit_words(claim)}"
    text = f"{text}\n{entry['verdict']}" + (
        f" ({claim['part']})" if entry["verdict"] == PARTLY and "part" in claim else ""
    )
    axis.annotate(text, (1.02, height), xycoords=("axes fraction", "data"), va="center", fontsize=7)


def _named(claim: Mapping[str, Any], letters: int = 52) -> str:
    return textwrap.fill(f"{claim['id']}  {claim['text']}", letters)
