"""Activation outliers per layer before and after folding: largest over median channel, by the linear that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paper import style
from paper.study import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INPUTS = {"q": "q, k, v read", "o": "o reads", "gate": "gate, up read", "down": "down reads"}
"""One role for each of the four inputs of a block."""

LOOKS = {"none": (style.GREY, "o", "before folding"), "awq": (style.BLUE, "D", "after folding (AWQ scales)")}
OTHERS = ((style.VERMILION, "X"), (style.GREEN, "v"))


def outliers(study: Study) -> Figure:
    """Draw four panels, one per input of a block; the ratio's axis is logarithmic and shared."""
    frame = study.frame("activations")
    if frame is not None:
        frame = frame[(frame["model"] == study.source) & frame["role"].isin(INPUTS)]
    ratios = None if frame is None or frame.empty else channel_ratios(frame)
    if ratios is None or ratios.empty:
        return style.sentence("The records hold no channel statistics of the source model's activations.")
    figure, axes = style.canvas(2.7, 1, len(INPUTS), sharey=True)
    looks = _looks(sorted(ratios["fold"].unique()))
    for axis, (role, title) in zip(axes, INPUTS.items(), strict=True):
        for fold, (colour, marker, label) in looks.items():
            part = ratios[(ratios["fold"] == fold) & (ratios["role"] == role)].sort_values("layer")
            under = {"markersize": 5, "linewidth": 2.5} if fold == "none" else {"markersize": 3}  # where both coincide
            axis.plot(part["layer"], part["ratio"], color=colour, marker=marker, label=label, **under)
        style.log_axis(axis)
        axis.set_title(title)
        axis.set_xlabel("decoder block, from 0")  # one label of the figure would lie under the legend
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("max |x|: largest / median channel")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def channel_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Return largest over median channel of max|x| per fold, role and layer (quantiles 1 and 0.5)."""
    index = ["fold", "role", "layer"]
    top = frame[frame["channel_quantile"] == 1.0].set_index(index)["absmax"]
    median = frame[frame["channel_quantile"] == 0.5].set_index(index)["absmax"]
    return (top / median).dropna().rename("ratio").reset_index()


def _looks(folds: list[str]) -> dict[str, tuple[str, str, str]]:
    """Return colour, marker and label per fold, ``none`` first."""
    looks: dict[str, Any] = {fold: LOOKS[fold] for fold in LOOKS if fold in folds}
    for fold, (colour, marker) in zip((fold for fold in folds if fold not in LOOKS), OTHERS, strict=False):
        looks[fold] = (colour, marker, f"after folding ({fold})")
    return looks
