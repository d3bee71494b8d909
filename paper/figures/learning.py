"""Best KL so far against evaluations spent, with each search's first feasible candidate marked, a panel per budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from paper import style
from paper.naming import SEARCH_METHODS, bits_title, method_rank, method_title
from paper.study import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def learning(study: Study) -> Figure:
    """Draw the search KL of the best candidate within the budget; a line per seed, the knapsack is dashed.

    A budget at which a single method searched has no panel beside one at which several did.
    """
    frame = study.frame("episodes")
    if frame is not None:
        frame = frame[
            (frame["model"] == study.source)
            & (frame["grid"] == "affine")
            & frame["kl"].notna()
            & frame["evals"].notna()
        ]
    if frame is None or frame.empty:
        return style.sentence("The records hold no episodes of a search on the source model.")
    searched = frame[frame["method"].isin(SEARCH_METHODS)]
    searched = frame[frame["method"] != "knapsack"] if searched.empty else searched
    if searched.empty:
        return style.sentence("No search of more than one evaluation was run on the source model.")
    several = searched.groupby("budget_bits")["method"].nunique()
    budgets = sorted(several[several > 1].index if several.max() > 1 else several.index)
    searched = searched[searched["budget_bits"].isin(budgets)]
    projected = {method for method in searched["method"].unique() if _projected(study, method)}
    figure, axes = style.canvas(2.9, 1, len(budgets), sharey=True)
    for axis, budget in zip(axes, budgets, strict=True):
        _panel(axis, study, searched[searched["budget_bits"] == budget], float(budget), projected)
        knapsack = frame[(frame["method"] == "knapsack") & (frame["budget_bits"] == budget)]
        if not knapsack.empty:
            axis.axhline(knapsack["kl"].min(), color=style.look("knapsack")[0], linestyle="--", linewidth=1)
        axis.set_title(f"budget {bits_title(float(budget))} bits")
        axis.set_xlabel("evaluations on search text")
    axes[0].set_ylabel("best KL on search text so far\n(nats per token)")
    methods = sorted(searched["method"].unique(), key=method_rank)
    handles = _handles(methods, projected, "knapsack" in set(frame["method"]))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _projected(study: Study, method: str) -> bool:
    """Return whether a search found nothing within its budget, so that its row is its policy's under a mask."""
    entries = study.find(study.source, method)
    return any(
        bool(each) for entry in entries if "projected" in entry.records for each in entry.records["projected"].dropna()
    )


def best_so_far(run: pd.DataFrame, limit_bytes: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (evaluations, best KL so far) of one seed; candidates over the budget's bytes do not count."""
    run = run.sort_values("evals")
    kl = run["kl"].astype("float64").to_numpy(copy=True)
    if limit_bytes is not None and run["bytes"].notna().any():
        kl[run["bytes"].astype("float64").to_numpy() > limit_bytes] = np.inf
    best = np.minimum.accumulate(kl)
    kept = np.isfinite(best)
    return run["evals"].astype("float64").to_numpy()[kept], best[kept]


def byte_limit(study: Study, budget: float) -> float | None:
    """Return the bytes that candidates may take, from the mixed rows, which are below it by less than one linear.

    Uniform rows do not show it: a package's own grid or smaller groups may take a tenth more at the same bits.
    """
    mixed = [entry for entry in study.find(study.source, bits=budget) if not entry.is_uniform]
    sizes = [size for entry in mixed if (size := entry.mean("bytes_linear"))]
    return 1.001 * max(sizes) if sizes else None


def _panel(axis: Any, study: Study, frame: pd.DataFrame, budget: float, projected: set[str]) -> None:
    limit = byte_limit(study, budget)
    for method, runs in frame.groupby("method"):
        colour, marker = style.look(str(method))
        face = "white" if method in projected else colour
        for _seed, run in runs.groupby("seed"):
            evals, best = best_so_far(run, limit)
            if len(evals):
                axis.step(evals, best, where="post", color=colour, linewidth=1.1, alpha=0.9)
                axis.plot(
                    evals[0], best[0], marker=marker, color=colour, markerfacecolor=face, markersize=6, clip_on=False
                )
    axis.set_xlim(left=0)


def _handles(methods: list[str], projected: set[str], knapsack: bool) -> list[Any]:
    handles = []
    for method in methods:
        colour, marker = style.look(method)
        look = {"markerfacecolor": "white", "linestyle": "none"} if method in projected else {}
        handles.append(style.handle(method_title(method), colour, marker=marker, **look))
    faces = {"full: the first within the budget": style.GREY}
    faces |= {"hollow: none was, the policy under a mask": "white"} if projected else {}
    for words, face in faces.items():
        handles.append(style.handle(words, style.GREY, marker="o", markerfacecolor=face, linestyle="none"))
    if knapsack:
        handles.append(style.handle("Fisher knapsack (1 evaluation)", style.look("knapsack")[0], linestyle="--"))
    return handles
