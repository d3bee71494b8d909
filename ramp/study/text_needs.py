"""Needs of a study, checked on models and texts before any long job: windows that it cuts, files that it exports."""

from __future__ import annotations

from pathlib import Path

from ramp.assets.options import ROLES
from ramp.study.draws import base_model
from ramp.study.planned_rows import Plan


def text_needs(plan: Plan, model: str) -> list[str]:
    """Return what the stages of one model of the study ask of its texts: ``TEXT:WINDOWSxLENGTH`` each."""
    study, limits, target = plan.study, plan.study.limits, model != plan.study.source
    tokens = (study.calibration.target_tokens if target else None) or study.calibration.tokens
    windows = (study.sensitivity.target_windows if target else None) or study.sensitivity.windows
    scored = (limits.target_windows if target else limits.windows) or 1
    read = (
        ("calibration", max(1, tokens // study.calibration.length), study.calibration.length),
        ("search", windows, study.sensitivity.length),
        ("search", study.search.windows, study.search.length),
        ("selection", study.search.selection_windows or study.search.windows, study.search.length),
    )
    readers = [model, *(name for name in plan.leakage.names if base_model(name) == model)]
    texts = {(Path(plan.leakage.text(name, role)).stem, *size) for name in readers for role, *size in read}
    needs = {f"{text}:{count}x{length}" for text, count, length in texts if text in ROLES}
    return sorted(needs | {f"{text}:{scored}x{study.evaluation.length}" for text in plan.texts(model)})


def counted_models(plan: Plan, model: str) -> list[str]:
    """Return the models for which texts are counted before a job of ``model``.

    Its own, where it is one of the study's and comes from outside (others are trained on the study's text), and with a
    model of the hub every other one of the hub: what lacks text stops before the hours of the first.
    """
    known = [name for name in plan.models if name not in plan.trained]
    own = base_model(model)
    hub = [name for name in known if plan.registry.get(name).kind == "hub"]
    return sorted({*(hub if own in hub else ()), *([own] if own in known else ())})


def exported_models(plan: Plan) -> list[str]:
    """Return the models that become GGUF files: exports of the study, llama.cpp's mixes, files beside them."""
    return sorted({*(row.model for row in (*plan.gguf_rows, *plan.mix_rows)), *plan.gguf.models})
