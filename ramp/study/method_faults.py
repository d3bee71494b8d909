"""Faults between a configuration and the loaded methods: files that do not load, parameters, kinds of methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest
from ramp.methods.kinds import Allocator, Method, Package, Quantizer
from ramp.methods.loader import Catalog, parse_params
from ramp.methods.names import UNQUANTIZED
from ramp.study.config import Study
from ramp.study.row_names import PlanError, Row
from ramp.study.variants import variant_params


def method_faults(study: Study, catalog: Catalog, named: Iterable[str]) -> Iterator[RampError]:
    """Yield what only the loaded methods show; ``named`` are those that the study uses."""
    used = dict.fromkeys([*named, *study.params])
    yield from (catalog.broken[name] for name in used if name in catalog.broken)
    methods = catalog.methods
    for name, given in study.params.items():
        if name in methods:
            try:
                parse_params(methods[name], given)
            except RampError as error:
                yield error
    for name, variant in study.variants.items():
        if variant.method in methods:
            try:
                known = study.params.get(variant.method, {})
                variant_params(name, methods[variant.method], known, variant.params)
            except RampError as error:
                yield error
    for name in study.external:
        if name in methods and not isinstance(methods[name], Package):
            yield PlanError(f"external: '{name}' goes through no package: name it in methods")
    for name in study.gguf.methods if study.gguf.models else []:
        if name in methods and not isinstance(methods[name], Allocator):
            yield PlanError(f"gguf.methods: '{name}' chooses no types: name an allocator, such as knapsack")
    for name in study.halo.methods:
        if name in methods and not isinstance(methods[name], Allocator):
            yield PlanError(f"halo.methods: '{name}' has no allocation to export: name an allocator, such as knapsack")
    if study.targets:
        yield from _transfer_faults(study, methods)
    yield from _fold_faults(study, {name: methods[name] for name in used if name in methods})


def _transfer_faults(study: Study, methods: dict[str, Method]) -> Iterator[PlanError]:
    """Yield transferred methods that leave no policy, rivals that allocate nothing, rows that are not uniform."""
    for name in study.transfer.methods:
        if name in methods and not methods[name].learned:
            yield PlanError(
                f"transfer.methods: '{name}' leaves no policy to transfer: name one whose file says learned=True"
            )
    for name in study.transfer.rivals:
        if name in methods and not isinstance(methods[name], Allocator):
            yield PlanError(f"transfer.rivals: '{name}' is no allocator: uniform rows stand in transfer.uniform")
    for row in map(Row.parse, study.transfer.uniform):
        if row.method not in {*methods, *UNQUANTIZED}:
            continue  # an unknown name is told elsewhere
        if not isinstance(methods.get(row.method), Quantizer | Package) or not row.is_whole:
            yield PlanError(
                f"transfer.uniform: '{row.short}' is no uniform row of a whole width from 2 to 8: name awq_gptq-b4, say"
            )


def _fold_faults(study: Study, methods: dict[str, Method]) -> Iterator[PlanError]:
    """Yield folds that nobody describes and methods need: an unknown fold must not become no fold under its name."""
    known = {"none", *study.folds}
    needed: dict[str, list[str]] = {}
    for name, method in methods.items():
        if isinstance(method, (Quantizer, Allocator)) and method.fold not in known:
            needed.setdefault(method.fold, []).append(name)
    for fold, names in needed.items():
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        yield PlanError(
            f"method '{names[0]}'{others} quantizes weights of fold '{fold}'{nearest(fold, known)}, and folds of the "
            f"configuration has {', '.join(sorted(known))}: describe '{fold}' there"
        )
