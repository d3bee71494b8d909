"""What a study asks of models and texts before any long job: windows that it cuts, files that it exports."""

from __future__ import annotations

from ramp.study.draws import base_model
from ramp.study.plan import Plan


def text_needs(plan: Plan, model: str) -> list[str]:
    """Return what the stages of one model of the study ask of its texts: ``TEXT:WINDOWSxLENGTH`` each."""
    study, limits, target = plan.study, plan.study.limits, model != plan.study.source
    tokens = (study.calibration.target_tokens if target else None) or study.calibration.tokens
    windows = (study.sensitivity.target_windows if target else None) or study.sensitivity.windows
    scored = (limits.target_windows if target else limits.windows) or 1
    needs = {
        f"calibration:{max(1, tokens // study.calibration.length)}x{study.calibration.length}",
        f"search:{windows}x{study.sensitivity.length}",
        f"search:{study.search.windows}x{study.search.length}",
        f"selection:{study.search.selection_windows or study.search.windows}x{study.search.length}",
        *(f"{text}:{scored}x{study.evaluation.length}" for text in plan.texts(model)),
    }
    return sorted(needs)


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
