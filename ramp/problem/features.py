"""The eleven numbers of RAMP's embedding of a linear: nine static ones computed in this module, two by the environment.

| index | number | computed as | source |
| --- | --- | --- | --- |
| 0 | activation maximum | log10 max|x| of the linear's input | digests |
| 1 | activation importance | log10 of the largest channel's mean|x| over the median channel's | digests |
| 2 | weight mean | mean|W| | digests |
| 3 | weight deviation | std W | digests |
| 4 | depth | index of the linear / (number of linears - 1), in forward order | digests |
| 5 | input size | log2 d_in | digests |
| 6 | output size | log2 d_out | digests |
| 7 | type | 1 attention, 0 MLP | digests |
| 8 | previous bits | bits of the linear before / widest width | ours, dynamic |
| 9 | remaining budget | (bytes left - cheapest completion) / (dearest - cheapest completion) | ours, dynamic |
| 10 | share of parameters | percent of the weights of all linears | ours |

Each is (value - center) / scale with the constants of ``FEATURES``, the same for every model: numbers normalised by
one model's own extremes would mean something else on the next and break transfer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ramp.core.errors import RampError
from ramp.models.architecture import ATTENTION_ROLES, LinearSpec

if TYPE_CHECKING:
    import torch


class EmbeddingError(RampError):
    """Missing or unusable statistics of the embedding."""


class Feature(NamedTuple):
    """One number of the embedding and its fixed normalisation."""

    name: str
    center: float
    scale: float
    dynamic: bool = False


FEATURES: tuple[Feature, ...] = (
    Feature("log10_absmax", 1.0, 1.0),  # inputs reach 1 to 1000 in Llama-like models
    Feature("log10_importance", 1.0, 1.0),  # a median channel is 1, outliers reach 100 and more
    Feature("weight_absmean", 0.0, 0.1),  # 0.01 to 0.3
    Feature("weight_std", 0.0, 0.1),
    Feature("depth", 0.5, 0.5),
    Feature("log2_d_in", 11.0, 2.0),  # 64 to 16384
    Feature("log2_d_out", 11.0, 2.0),
    Feature("is_attention", 0.0, 1.0),
    Feature("previous_bits", 0.5, 0.5, dynamic=True),
    Feature("remaining_budget", 0.5, 0.5, dynamic=True),
    Feature("params_percent", 0.5, 0.5),  # an equal share of 210 linears is 0.48 %
)
STATIC = [index for index, feature in enumerate(FEATURES) if not feature.dynamic]
PREVIOUS_BITS, REMAINING_BUDGET = (index for index, feature in enumerate(FEATURES) if feature.dynamic)
SIZE = len(FEATURES)
TINY = 1e-6  # keeps the logarithm of a dead channel finite


def feature_mask(shown: Sequence[str] | None) -> np.ndarray:
    """Return float32 [11] for the ablation of the embedding: 1 for features named in ``shown``, else 0; None shows all.

    Hidden numbers are zero in every observation, and so are the first layer's weights on them in the saved policy: the
    file's format does not change, and a transfer hides the same numbers with a plain environment.

    Raises:
        EmbeddingError: a name is no feature.
    """
    names = [feature.name for feature in FEATURES]
    shown = names if shown is None else shown
    if unknown := sorted(set(shown) - set(names)):
        raise EmbeddingError(f"unknown number of the embedding '{unknown[0]}' (known: {', '.join(names)})")
    return np.array([name in shown for name in names], dtype=np.float32)


def normalise(index: int, value: np.ndarray | float) -> np.ndarray | float:
    """Return (value - center) / scale of feature ``index``, of any shape; units of both are those of ``FEATURES``."""
    return (value - FEATURES[index].center) / FEATURES[index].scale


def static_features(
    linears: Sequence[LinearSpec],
    stats: Mapping[str, tuple[np.ndarray, np.ndarray]],
    weight_moments: Mapping[str, tuple[float, float]],
) -> np.ndarray:
    """Return the nine static numbers of every linear, normalised.

    Args:
        linears: n linears in forward order.
        stats: site -> (absmax, absmean) of the float model's inputs, each [d_in].
        weight_moments: linear name -> (mean|W|, std W).

    Returns:
        float32 [n, 9], columns in the order of ``STATIC``.

    Raises:
        EmbeddingError: a site or a linear has no statistics, or one is not finite.
    """
    total, rows = sum(linear.params for linear in linears), []
    for position, linear in enumerate(linears):
        if linear.site not in stats:
            raise EmbeddingError(f"no activation statistics for {linear.site}: run ramp.calibration on this model")
        if linear.name not in weight_moments:
            raise EmbeddingError(f"no weight moments for {linear.name}: the checkpoint lacks it")
        absmax, absmean = stats[linear.site]
        importance = float(absmean.max()) / max(float(np.median(absmean)), TINY)
        weight_absmean, weight_std = weight_moments[linear.name]
        values = {
            "log10_absmax": np.log10(max(float(absmax.max()), TINY)),
            "log10_importance": np.log10(max(importance, TINY)),
            "weight_absmean": weight_absmean,
            "weight_std": weight_std,
            "depth": position / max(len(linears) - 1, 1),
            "log2_d_in": np.log2(linear.d_in),
            "log2_d_out": np.log2(linear.d_out),
            "is_attention": float(linear.role in ATTENTION_ROLES),
            "params_percent": 100.0 * linear.params / total,
        }
        rows.append([normalise(index, values[FEATURES[index].name]) for index in STATIC])
    features = np.asarray(rows, dtype=np.float32)
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise EmbeddingError(
            f"{FEATURES[STATIC[column]].name} of {linears[row].name} is not finite: "
            "the calibration statistics are broken, make them again"
        )
    return features


def read_stats(
    path: str | Path, fold: Mapping[str, torch.Tensor] | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read (absmax, absmean) per site from ``R/calibration/{model}.safetensors``; a fold divides both by its s."""
    from ramp.core.tensors import load_tensors

    tensors = load_tensors(path, "calibration statistics", again="run ramp.calibration again")
    found = {}
    for name in tensors:
        site, _, kind = name.rpartition("/")
        if kind == "absmax":
            scale = fold[site].double() if fold and site in fold else 1.0
            pair = (tensors[f"{site}/absmax"].double() / scale, tensors[f"{site}/absmean"].double() / scale)
            found[site] = (pair[0].numpy(), pair[1].numpy())
    return found
