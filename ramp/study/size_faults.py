"""Faults between a configuration and the sizes of its models, where these are known before they are fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ramp.core.errors import RampError
from ramp.quantizers.sizes import group_size_for
from ramp.quantizers.widths import SizeError, group_of
from ramp.study.draws import base_model
from ramp.study.model_shape import SizeUnknown, shape_of
from ramp.study.planned_rows import Plan


def size_faults(plan: Plan) -> Iterator[RampError]:
    """Yield models whose rows no group of the study divides, and those whose sizes cannot be read."""
    study = plan.study
    asked: dict[str, int] = {"group_size": study.group_size}
    asked |= {f"widths, {width}": group_of(width, study.group_size) for width in study.widths}
    sections = (plan.league, plan.folds, plan.banks, plan.tuning, plan.leakage)
    named = [*plan.models, *(model for section in sections for model in section.models)]
    for model in dict.fromkeys(map(base_model, named)):
        try:
            shape = shape_of(model, plan.registry, study.results, gguf=False)  # asked by every reading of the workflow
            rows = dict.fromkeys(linear.d_in for linear in shape.block)
        except (SizeUnknown, OSError):
            continue
        except RampError as error:
            yield error
            continue
        yield from _row_faults(model, rows, asked)


def _row_faults(model: str, rows: Mapping[int, object], asked: Mapping[str, int]) -> Iterator[SizeError]:
    """Yield the first group size that divides rows of some length of a model into no groups."""
    for key, group_size in asked.items():
        for d_in in rows:
            try:
                group_size_for(d_in, group_size)
            except SizeError as error:
                yield SizeError(f"{key}: model '{model}': {error}")
                return
