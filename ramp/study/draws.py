"""Draws of a model: the model itself, calibrated on other text, under a name of its own.

``smollm2-135m.draw2`` is SmolLM2 with calibration documents, their order and the windows of sensitivities drawn by seed
2: a bank, folds and rows of its own. Draw 0 is the model. A draw shares the checkpoint, the held-out text and the float
reference of its model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ramp.study.leaked_models import split_leak

_DRAWN = re.compile(r"(.+)\.draw([1-9][0-9]*)")


def drawn(model: str, draw: int) -> str:
    """Return the name of a draw of a model; draw 0 is the model."""
    return f"{model}.draw{draw}" if draw else model


def drawn_models(models: Iterable[str], draws: Iterable[int]) -> list[str]:
    """Return the names of all draws of all models, without those that are the models themselves."""
    return [drawn(model, draw) for model in models for draw in draws if draw]


def split_draw(name: str) -> tuple[str, int]:
    """Return the model behind a name, and the draw: 0 for the model itself, leaking or not."""
    bare, _ = split_leak(name)
    match = _DRAWN.fullmatch(bare)
    return (match[1], int(match[2])) if match else (bare, 0)


def base_model(name: str) -> str:
    """Return the model behind a name."""
    return split_draw(name)[0]
