"""Plans of the studies in config/, as the workflow makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ramp.assets.registry import load_registry
from ramp.methods.loader import discover, load_method
from ramp.study.validation import read, validate
from workflow.scripts.plan import Plan, used_methods

REPO = Path(__file__).resolve().parents[1]


def plan_of(file: str, **change: Any) -> Plan:
    found = discover(REPO / "baselines")
    registry = load_registry(REPO / "config" / "assets.yaml")
    study = validate({**read(REPO / "config" / file), **change}, methods=found, models=registry.of_type("model"))
    return Plan(study, {name: load_method(found[name]) for name in used_methods(study)}, registry)
