"""Curves of the league's runs: held-out KL of the best allocation so far, over the evaluations spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def mean_curve(curves: pd.DataFrame, points: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Return one allocator's longest runs: evaluations, mean, least and largest held-out KL over seeds, and the seeds.

    Evaluations are log-spaced, from the first at which every seed has an incumbent; ``curves`` holds at least one run.
    """
    curves = curves[curves["run_evals"] == curves["run_evals"].max()]
    runs = [run for _, run in curves.groupby("seed")]
    last = int(curves["run_evals"].max())
    first = max(int(run["evals"].min()) for run in runs)
    at = np.unique(np.round(np.geomspace(first, max(last, first), points)).astype(int))
    values = np.stack([curve_at(run, at) for run in runs])  # (seeds, points)
    return at, values.mean(axis=0), values.min(axis=0), values.max(axis=0), len(runs)


def curve_at(points: Any, evals: np.ndarray) -> np.ndarray:
    """Return a run's held-out KL at each of ``evals``, of its last change up to there; NaN before the first."""
    points = points.sort_values("evals")
    at, kl = points["evals"].to_numpy("float64"), points["kl_held"].to_numpy("float64")
    where = np.searchsorted(at, evals, side="right") - 1
    return np.where(where >= 0, kl[np.maximum(where, 0)], np.nan)
