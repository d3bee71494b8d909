"""An environment that shows the policy some of the eleven numbers only: the embedding's ablation.

Hidden numbers are zero in every observation, and zero are the first layer's weights on them in the policy that is
saved: so the file's format stays as it is, and a transfer hides the same numbers without being told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ramp.problem.features import FEATURES, EmbeddingError
from ramp.rl.environment import AllocationEnv


def veil(shown: Sequence[str] | None) -> np.ndarray:
    """float32 [11]: 1 for the features named in ``shown``, 0 for the others; None shows all.

    Raises:
        EmbeddingError: a name that is no feature.
    """
    names = [feature.name for feature in FEATURES]
    if shown is None:
        return np.ones(len(names), dtype=np.float32)
    odd = sorted(set(shown) - set(names))
    if odd:
        raise EmbeddingError(f"'{odd[0]}' is no number of the embedding (known: {', '.join(names)})")
    return np.array([name in shown for name in names], dtype=np.float32)


class VeiledEnv(AllocationEnv):
    """``AllocationEnv`` whose observations are multiplied by ``shown``, float32 [11]."""

    def __init__(self, *args: Any, shown: np.ndarray, **options: Any) -> None:
        self.shown = shown
        super().__init__(*args, **options)

    def observe(self) -> np.ndarray:
        """float32 [11] of the linear that is next, hidden numbers zero."""
        return super().observe() * self.shown


def veiled_layers(
    layers: list[tuple[np.ndarray, np.ndarray]], shown: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """A policy's layers with the first one blind to hidden numbers: the same function of a veiled observation."""
    (weight, bias), *rest = layers
    return [(weight * shown[None, :], bias), *rest]
