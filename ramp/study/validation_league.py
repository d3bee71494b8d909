"""Faults of the configuration's league, variants, exact optimum and fold ablation, each as one sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from ramp.core.nearest_name import nearest
from ramp.quantizers.widths import bits_of
from ramp.study.config import Study
from ramp.study.config_sections import Search


def near(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)``, or the valid names where none is near."""
    known = sorted(known)
    return nearest(name, known) or f" (known: {', '.join(known) or 'none'})"


def number_faults(where: str, numbers: Sequence[float], menu: Sequence[int]) -> Iterator[str]:
    """Yield budgets outside the menu's bits."""
    for index, number in enumerate(numbers):
        if number < min(menu):
            yield f"{where}[{index}]: {number:g} bits is below the cheapest width of the menu, {min(menu)}"
        if number > max(menu):
            yield f"{where}[{index}]: {number:g} bits is above the dearest width of the menu, {max(menu)}"


def repeated(where: str, items: Sequence[str | int]) -> list[str]:
    """Return a fault for every item that is listed more than once."""
    return [f"{where}: '{item}' is listed twice" for item in dict.fromkeys(items) if items.count(item) > 1]


def league_models(study: Study) -> dict[str, list[str]]:
    """Return the models that the league, the optimum and the fold ablation name, by key."""
    grids = study.league.grids.items() if study.league else ()
    found = {f"league.grids.{name}.models": grid.models for name, grid in grids}
    found |= {"optimum.models": study.optimum.models} if study.optimum else {}
    return found | ({"fold_ablation.models": study.fold_ablation.models} if study.fold_ablation else {})


def league_methods_faults(study: Study, known: Collection[str]) -> list[str]:
    """Return unknown names of methods; ``known`` are those that ``baselines/`` registers."""
    faults = []
    for name, variant in study.variants.items():
        if name in known:
            faults.append(f"variants: '{name}' is registered in baselines/ already: give the variant another name")
        if variant.method not in known:
            faults.append(f"variants.{name}.method: unknown method '{variant.method}'{near(variant.method, known)}")
    named = {
        f"league.grids.{n}.methods": grid.methods for n, grid in (study.league.grids if study.league else {}).items()
    }
    if study.optimum:
        named["optimum.methods"] = study.optimum.methods
    if study.fold_ablation:
        named["fold_ablation.methods"] = study.fold_ablation.methods
    both = {*known, *study.variants}
    for where, names in named.items():
        faults += [f"{where}: unknown method '{name}'{near(name, both)}" for name in names if name not in both]
        faults += repeated(where, names)
    return faults


def league_faults(study: Study) -> list[str]:
    """Return budgets outside the menu, checkpoints that fall, widths that no bank has, unknown folds."""
    return [*_number_faults(study), *_text_faults(study), *_width_faults(study), *_fold_faults(study)]


def _text_faults(study: Study) -> Iterator[str]:
    """Yield models that grids search on different text, so that their rows could not be compared."""
    first: dict[str, tuple[str, Search | None]] = {}
    for name, grid in (study.league.grids if study.league else {}).items():
        for model in grid.models:
            before, text = first.setdefault(model, (name, grid.search))
            if text != grid.search:
                yield (
                    f"league.grids.{name}.search: {model} has another search text in grid '{before}', and their rows "
                    "cannot be compared: give both the same"
                )


def _number_faults(study: Study) -> Iterator[str]:
    menu = [bits_of(width) for width in study.widths]
    grids = study.league.grids if study.league else {}
    named = {f"league.grids.{name}": (grid.budgets, menu, grid.checkpoints) for name, grid in grids.items()}
    if study.optimum:
        named["optimum"] = study.optimum.budgets, study.optimum.widths, study.optimum.checkpoints
    for where, (budgets, bits, _) in named.items():
        yield from number_faults(f"{where}.budgets", budgets, bits)
    for where, (_, _, counts) in named.items():
        if sorted(set(counts)) != list(counts):
            yield f"{where}.checkpoints: {list(counts)} should rise and repeat nothing"


def _width_faults(study: Study) -> Iterator[str]:
    if study.optimum is None:
        return
    for index, width in enumerate(study.optimum.widths):
        if width not in study.widths:
            yield f"optimum.widths[{index}]: {width} is not in the study's widths {study.widths}, which its bank holds"
    if sorted(set(study.optimum.widths)) != study.optimum.widths:
        yield f"optimum.widths: {study.optimum.widths} should rise and repeat nothing"


def _fold_faults(study: Study) -> Iterator[str]:
    if study.fold_ablation is None:
        return
    section, known = study.fold_ablation, {*study.folds, "none"}
    for name in section.folds:
        if name not in known:
            yield f"fold_ablation.folds: unknown fold '{name}'{near(name, known)}"
    if "none" not in section.folds:
        yield "fold_ablation.folds: 'none' is missing: it is what the others are compared with"
    yield from repeated("fold_ablation.models", section.models)
    yield from repeated("fold_ablation.folds", section.folds)
    yield from repeated("fold_ablation.bits", section.bits)
