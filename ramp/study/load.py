"""Check a configuration, load the methods that its study names, and plan the study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ramp.assets.registry import load_registry
from ramp.methods.kinds import Package
from ramp.methods.loader import discover, parse_params
from ramp.study.config import Study
from ramp.study.own_assets import with_own_assets
from ramp.study.plan import Plan
from ramp.study.row_names import FLOAT, RELEASED, Row
from ramp.study.validation import validate


def used_methods(study: Study) -> list[str]:
    """Return the names of all registered methods that the study needs."""
    names = study.source_methods
    if study.targets:
        names += [*study.transfer.methods, *study.transfer.rivals]
        names += [Row.parse(row).method for row in study.transfer.uniform]
    grids = study.league.grids.values() if study.league else []
    varied = [name for grid in grids for name in grid.methods]
    varied += [*(study.optimum.methods if study.optimum else []), *study.variants]
    varied += study.fold_ablation.methods if study.fold_ablation else []
    if study.banks:
        varied += [*study.banks.methods, *(Row.parse(row).method for row in study.banks.uniform)]
    varied += [Row.parse(row).method for row in study.tuning.rows if study.tuning.models]
    names += [*study.external, *map(study.base_of, varied)]
    return [name for name in dict.fromkeys(names) if name not in (FLOAT, RELEASED)]


def make_plan(values: Mapping[str, Any], root: Path, registry: Path, extra: Iterable[str] = ()) -> Plan:
    """Check a configuration and plan its study.

    Args:
        values: the configuration, as Snakemake read it.
        root: folder of the project, whose ``baselines/`` is read.
        registry: the asset registry.
        extra: packages that are loaded, if they load, besides those of the study.

    Raises:
        ConfigError: the configuration has faults; all of them at once.
        RampError: a method that the study names does not load, or cannot give what the study asks of it.
    """
    known = load_registry(registry)
    catalog = discover(root / "baselines")
    values = with_own_assets(values)
    own = values.get("assets")
    study = validate(values, methods=catalog, models=[*known.of_type("model"), *(own if isinstance(own, dict) else ())])
    known = known.with_own(study.assets)
    named = used_methods(study)
    packages = [] if study.external else [n for n, method in catalog.methods.items() if isinstance(method, Package)]
    names = dict.fromkeys([*named, *packages, *(name for name in extra if name in catalog.methods)])
    for name, given in study.params.items():
        parse_params(catalog[name], given)
    return Plan(
        study=study,
        methods={name: catalog[name] for name in names},
        registry=known,
        files={name: catalog.reference(name).relative_to(root) for name in catalog.methods},
        broken=tuple(str(error) for name, error in catalog.broken.items() if name not in named),
    ).check()
