"""Check a configuration, load the methods that its study names, and plan the study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ramp.assets.registry import Registry, load_registry
from ramp.core.errors import Faults
from ramp.methods.kinds import Package
from ramp.methods.loader import Catalog, discover
from ramp.methods.names import UNQUANTIZED
from ramp.study.asset_faults import asset_faults
from ramp.study.config import Study
from ramp.study.method_faults import method_faults
from ramp.study.own_assets import with_own_assets
from ramp.study.planned_rows import Plan
from ramp.study.results_folder import results_faults
from ramp.study.row_names import Row
from ramp.study.size_faults import size_faults
from ramp.study.validation import ConfigError, checked


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
    varied += [Row.parse(row).method for row in study.leakage.rows if study.leakage.models]
    varied += study.gguf.methods if study.gguf.models else []
    names += [*study.external, *map(study.base_of, varied)]
    return [name for name in dict.fromkeys(names) if name not in UNQUANTIZED]


def registry_of(values: Mapping[str, Any]) -> str:
    """Return the registry that a configuration names; the default where it names none, or no path."""
    named = values.get("registry")
    return named if isinstance(named, str) else str(Study.model_fields["registry"].default)


def make_plan(values: Mapping[str, Any], root: Path, registry: Path, extra: Iterable[str] = ()) -> Plan:
    """Check a configuration and plan its study.

    Args:
        values: the configuration, as Snakemake read it.
        root: folder of the project, whose ``baselines/`` is read.
        registry: the asset registry.
        extra: packages that are loaded, if they load, besides those of the study.

    Raises:
        ConfigError: configuration, registry and methods have faults; all of them at once. A single one of the registry
            or of a method is raised as it is. Those between rows are among them where the rest can be read: a row
            that another fault takes away is no fault.
    """
    faults = Faults()
    known = faults.of(lambda: load_registry(registry))
    catalog = discover(root / "baselines")
    values = with_own_assets(values, faults)
    own = values.get("assets")
    models = None if known is None else [*known.of_type("model"), *(own if isinstance(own, dict) else ())]
    found = checked(values, methods=catalog, models=models)
    faults.add(map(ConfigError, found.faults))
    study, plan = found.study, None
    if study is not None:
        named = used_methods(study)
        known = known and known.with_own(study.assets)
        faults.add(map(ConfigError, results_faults(study.results, root)))
        faults.add(map(ConfigError, asset_faults(study, known) if known else ()))
        faults.add(method_faults(study, catalog, named))
        if known and found.whole and set(named) <= set(catalog.methods):
            plan = _plan(study, known, catalog, root, named, extra)
            faults.add(plan.faults())
            faults.add(size_faults(plan))
    faults.tell(ConfigError)
    assert plan is not None  # else that was told
    return plan


def _plan(
    study: Study, registry: Registry, catalog: Catalog, root: Path, named: Iterable[str], extra: Iterable[str]
) -> Plan:
    """Return the plan of a study with the methods that it names, ``extra`` packages, and all if it names none."""
    packages = [] if study.external else [n for n, method in catalog.methods.items() if isinstance(method, Package)]
    names = dict.fromkeys([*named, *packages, *(name for name in extra if name in catalog.methods)])
    return Plan(
        study=study,
        methods={name: catalog[name] for name in names},
        registry=registry,
        files={name: catalog.reference(name).relative_to(root) for name in catalog.methods},
        broken=tuple(str(error) for name, error in catalog.broken.items() if name not in named),
    )
