"""Plans of the studies in config/, as the workflow makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ramp.study.load import make_plan
from ramp.study.plan import Plan
from ramp.study.rule_inputs import RuleFiles
from ramp.study.rule_params import RuleValues
from ramp.study.validation import read

REPO = Path(__file__).resolve().parents[1]


def study_of(file: str) -> dict[str, Any]:
    """The content of ``config/file``, which without a study's name is merged over the default."""
    values = read(REPO / "config" / file)
    return values if "study" in values else {**read(REPO / "config" / "config.yaml"), **values}


def plan_of(file: str, **change: Any) -> Plan:
    """The plan of ``config/file`` with some keys changed."""
    return make_plan({**study_of(file), **change}, REPO, REPO / "config" / "assets.yaml")


def files_of(plan: Plan) -> RuleFiles:
    """The input files of a plan's rules, as seen from the project's folder."""
    return RuleFiles(plan, REPO, ".envs", str)


def values_of(plan: Plan) -> RuleValues:
    """The parameters of a plan's rules."""
    return RuleValues(files_of(plan))
