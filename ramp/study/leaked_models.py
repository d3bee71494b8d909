"""Leaks of a model: the model calibrated or searched on text that is nearer to the held-out text than the study's own.

``smollm2-135m.leak-own-test`` is SmolLM2 calibrated on the study's own text and searched on the very windows that rows
are scored on. Such models exist in the section ``leakage`` alone (``ramp.study.leakage_plan``): they measure what a
leak buys, and no row of them is a result. Their draws have both endings: ``smollm2-135m.draw2.leak-test-test``.
"""

from __future__ import annotations

import re

from ramp.assets.leakage_texts import LEVELS, NO_LEAK, OWN, Leak

_LEAKING = re.compile("(.+)[.]leak-({0})-({0})".format("|".join((OWN, *LEVELS))))


def leaking(model: str, leak: Leak) -> str:
    """Return the name of a model or draw with a leak; without one it is the model."""
    return model if leak == NO_LEAK else f"{model}.leak-{leak}"


def split_leak(name: str) -> tuple[str, Leak]:
    """Return the model or draw behind a name, and its leak: ``NO_LEAK`` for the model itself."""
    match = _LEAKING.fullmatch(name)
    return (match[1], Leak(match[2], match[3])) if match else (name, NO_LEAK)


def calibrated_as(name: str) -> str:
    """Return the model whose statistics, folds and banks a model has: one that is searched on other text has no own."""
    model, leak = split_leak(name)
    return leaking(model, Leak(leak.calibration))
