"""Plans of the studies in config/, as the workflow makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snakemake.utils import update_config

from ramp.study.config import Study
from ramp.study.load import make_plan
from ramp.study.planned_rows import Plan
from ramp.study.rule_inputs import RuleFiles
from ramp.study.rule_params import RuleValues
from ramp.study.validation import ConfigError, checked, read

REPO = Path(__file__).resolve().parents[1]


BELOW = {"rehearsal.yaml": "paper.yaml"}
"""File -> the study that it is laid over; one without a study's name is laid over config.yaml."""


def study_of(file: str) -> dict[str, Any]:
    """The content of ``config/file``, merged over another where it is a layer, as Snakemake merges."""
    values = read(REPO / "config" / file)
    if "study" in values:
        return values
    merged = study_of(BELOW.get(file, "config.yaml"))
    update_config(merged, values)
    return merged


def validate(
    values: Mapping[str, Any], *, methods: Iterable[str] | None = None, models: Iterable[str] | None = None
) -> Study:
    """The study of a configuration; ``ConfigError`` has every fault of it on a line of its own."""
    found = checked(values, methods=methods, models=models)
    if found.faults:
        raise ConfigError("\n".join(found.faults))
    assert found.study is not None  # the last pass holds no faulty key
    return found.study


def plan_of(file: str, **change: Any) -> Plan:
    """The plan of ``config/file`` with some keys changed."""
    return make_plan({**study_of(file), **change}, REPO, REPO / "config" / "assets.yaml")


def files_of(plan: Plan) -> RuleFiles:
    """The input files of a plan's rules, as seen from the project's folder."""
    return RuleFiles(plan, REPO, ".envs", str)


def values_of(plan: Plan) -> RuleValues:
    """The parameters of a plan's rules."""
    return RuleValues(files_of(plan))
