"""Faults of the configuration's league, variants, exact optimum and fold ablation, each as one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence

from ramp.quantizers.widths import bits_of
from ramp.study.config import Study
from ramp.study.sections import Search


def _near(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else f" (known: {', '.join(sorted(known)) or 'none'})"


def league_models(study: Study) -> dict[str, list[str]]:
    """Models that the league, the optimum and the fold ablation name, by where they stand."""
    grids = study.league.grids.items() if study.league else ()
    found = {f"league.grids.{name}.models": grid.models for name, grid in grids}
    found |= {"optimum.models": study.optimum.models} if study.optimum else {}
    return found | ({"fold_ablation.models": study.fold_ablation.models} if study.fold_ablation else {})


def league_methods_faults(study: Study, known: Collection[str]) -> list[str]:
    """Names of methods that nothing bears; ``known`` are the files in ``baselines/``."""
    faults = []
    for name, variant in study.variants.items():
        if name in known:
            faults.append(f"variants: '{name}' is a file in baselines/ already: give the variant another name")
        if variant.method not in known:
            faults.append(f"variants.{name}.method: unknown method '{variant.method}'{_near(variant.method, known)}")
    named = {
        f"league.grids.{n}.methods": grid.methods for n, grid in (study.league.grids if study.league else {}).items()
    }
    if study.optimum:
        named["optimum.methods"] = study.optimum.methods
    if study.fold_ablation:
        named["fold_ablation.methods"] = study.fold_ablation.methods
    both = {*known, *study.variants}
    for where, names in named.items():
        faults += [f"{where}: unknown method '{name}'{_near(name, both)}" for name in names if name not in both]
        faults += [f"{where}: '{name}' is listed twice" for name in sorted({n for n in names if names.count(n) > 1})]
    return faults


def league_faults(study: Study) -> list[str]:
    """Budgets outside the menu, checkpoints that fall, widths that no bank has, folds that are not there."""
    return [*_number_faults(study), *_text_faults(study), *_width_faults(study), *_fold_faults(study)]


def _text_faults(study: Study) -> Iterator[str]:
    """A model that grids search on different text, so that its rows could not stand beside each other."""
    first: dict[str, tuple[str, Search | None]] = {}
    for name, grid in (study.league.grids if study.league else {}).items():
        for model in grid.models:
            before, text = first.setdefault(model, (name, grid.search))
            if text != grid.search:
                yield (
                    f"league.grids.{name}.search: {model} has another search text in grid '{before}', and their rows "
                    "could not stand beside each other: give both the same"
                )


def _number_faults(study: Study) -> Iterator[str]:
    budgets: dict[str, tuple[Sequence[float], Sequence[int]]] = {}
    menu = [bits_of(width) for width in study.widths]
    checkpoints: dict[str, Sequence[int]] = {}
    for name, grid in (study.league.grids if study.league else {}).items():
        budgets[f"league.grids.{name}.budgets"] = grid.budgets, menu
        checkpoints[f"league.grids.{name}.checkpoints"] = grid.checkpoints
    if study.optimum:
        budgets["optimum.budgets"] = study.optimum.budgets, study.optimum.widths
        checkpoints["optimum.checkpoints"] = study.optimum.checkpoints
    for where, (numbers, bits) in budgets.items():
        for index, number in enumerate(numbers):
            if number < min(bits):
                yield f"{where}[{index}]: {number:g} bits is below the cheapest width of the menu, {min(bits)}"
            if number > max(bits):
                yield f"{where}[{index}]: {number:g} bits is above the dearest width of the menu, {max(bits)}"
    for where, counts in checkpoints.items():
        if sorted(set(counts)) != list(counts):
            yield f"{where}: {list(counts)} should rise and repeat nothing"


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
    here, known = study.fold_ablation, {*study.folds, "none"}
    for name in here.folds:
        if name not in known:
            yield f"fold_ablation.folds: unknown fold '{name}'{_near(name, known)}"
    if "none" not in here.folds:
        yield "fold_ablation.folds: 'none' is missing: it is what the others are compared with"
    listed: dict[str, Sequence[str | int]] = {"models": here.models, "folds": here.folds, "bits": here.bits}
    for where, items in listed.items():
        for item in dict.fromkeys(item for item in items if items.count(item) > 1):
            yield f"fold_ablation.{where}: '{item}' is listed twice"
