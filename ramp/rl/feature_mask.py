"""The feature mask: which of the eleven numbers the policy sees, for the ablation of the embedding.

Hidden numbers are zero in every observation, and so are the first layer's weights on them in the saved policy: the
file's format does not change, and a transfer hides the same numbers with a plain environment.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ramp.problem.features import FEATURES, EmbeddingError


def feature_mask(shown: Sequence[str] | None) -> np.ndarray:
    """Return float32 [11]: 1 for the features named in ``shown``, 0 for the others; None shows all.

    Raises:
        EmbeddingError: a name is no feature.
    """
    names = [feature.name for feature in FEATURES]
    if shown is None:
        return np.ones(len(names), dtype=np.float32)
    unknown = sorted(set(shown) - set(names))
    if unknown:
        raise EmbeddingError(f"unknown number of the embedding '{unknown[0]}' (known: {', '.join(names)})")
    return np.array([name in shown for name in names], dtype=np.float32)


def masked_layers(layers: list[tuple[np.ndarray, np.ndarray]], mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return a policy's layers with zero weights on hidden numbers: the same function of a masked observation."""
    (weight, bias), *rest = layers
    return [(weight * mask[None, :], bias), *rest]
