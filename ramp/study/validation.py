"""A configuration checked at start: all faults at once, each with its path and the nearest valid name."""

from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ramp.assets.leakage_texts import NO_LEAK
from ramp.assets.registry import ASSET_LIKE
from ramp.core.errors import RampError
from ramp.core.fault_words import Place, fields_at, in_words, placed
from ramp.core.nearest_name import near
from ramp.core.yaml_file import YamlError, check_extent, read_yaml
from ramp.gguf_format.type_names import MENU, MIXES
from ramp.methods.kinds import FoldRef
from ramp.methods.names import UNQUANTIZED
from ramp.quantizers.widths import bits_of, make_menu
from ramp.study.config import Study
from ramp.study.config_sections import Banks, FoldAblation, Grid, Optimum, Search
from ramp.study.config_types import DEVICE_PATTERN, METHOD_PATTERN, PATH_PATTERN, PATH_WORDS, ROW_PATTERN
from ramp.study.draws import base_model
from ramp.study.leaked_models import split_leak
from ramp.study.row_names import Row, bits

RUNS_CODE = "__use_yte__"
"""The key at top level that makes Snakemake evaluate a configuration as a template."""


class ConfigError(RampError):
    """The configuration has faults; the message has one line for each."""


@dataclass(frozen=True)
class Checked:
    """Parts of a configuration that can be read, and its faults."""

    study: Study | None  # keys with a fault have their defaults; None where not even that can be read
    faults: list[str]
    whole: bool  # every value stands in the study and every name is known: what rows it lacks, its user left out


def checked(values: Mapping[str, Any], *, methods: Iterable[str] | None, models: Iterable[str] | None) -> Checked:
    """Return what can be read of a study, and every fault.

    ``methods`` are the names that ``baselines/`` registers, ``models`` those of the registry; where one of them is
    None, names of that kind are not looked up. Faulty keys are set aside and the rest is checked further, so that one
    run shows all that is wrong.
    """
    check_extent(values, "the configuration")
    faults: list[str] = []
    whole = True
    kept = copy.deepcopy(dict(values))
    study = None
    faulty: list[Place] = []
    for _ in range(9):  # what holds a key that was set aside may be faulty without it: each pass goes one level up
        earlier = tuple(faulty)
        try:
            study = Study.model_validate(kept)
            break
        except ValidationError as error:
            for path, fault in placed(error, kept):
                if all(each[: len(path)] != path for each in earlier):
                    faults.append(f"{in_words(Study, path, fault, _LIKE)}{_own_file(path, fault)}")
                faulty.append(path)
                whole = whole and _means_nothing(path, fault)
                # a section that lacks a key is set aside whole: without it nothing in it can be checked
                _drop(kept, path[:-1] if fault["type"] == "missing" and len(path) > 1 else path)
        kept = {"study": "unnamed", "source": UNKNOWN, **kept}
    if study is not None:
        unknown = list(_unknown_names(study, methods, models))
        faults += [*unknown, *_cross_faults(study)]
        whole = whole and not unknown and study.source != UNKNOWN
    return Checked(study, faults, whole)


UNKNOWN = "unknown-source"
"""The source of a study whose own cannot be read: no fault is told of it."""
ADD_A_MODEL = "; a model of your own: give the path of its folder, ./my-model, or add it to config/assets.yaml"


def is_path(value: Any) -> bool:
    """Return whether a value of the configuration is a path and no name: it begins with /, ./, ../ or ~."""
    return isinstance(value, str) and value.startswith(("/", "./", "../", "~"))


def path_meant(name: str, otherwise: str = "") -> str:
    """Return the remedy for a name that nothing has, where a file or folder is called so; else the other one."""
    return f"; for the one in this folder write ./{name}" if name and os.path.exists(name) else otherwise


def _own_file(path: Place, fault: Any) -> str:
    """Return the remedy for a model or text by a name that no name can be, or by a path where only names are read."""
    if fault["type"] != "string_pattern_mismatch":
        return ""
    if path[:1] not in (("source",), ("targets",), ("texts",)):
        named = is_path(fault["input"]) and path[-2:-1] in (("models",), ("texts",), ("target_texts",))
        return "; paths stand at source, targets and texts alone: name an entry of assets here" if named else ""
    return path_meant(fault["input"], "" if path[0] == "texts" else ADD_A_MODEL)


def _drop(values: Any, path: Place) -> None:
    """Remove the key at ``path``; a fault inside a list removes the whole list's key."""
    for depth, part in enumerate(path):
        if not isinstance(values, dict) or part not in values:
            return
        if depth == len(path) - 1 or not isinstance(values[part], dict):
            del values[part]
            return
        values = values[part]


def _means_nothing(path: Place, fault: Any) -> bool:
    """Return whether a faulty key is no known one, misspelt: without it the study is what its user means."""
    known = list(fields_at(Study, path[:-1]))
    return fault["type"] == "extra_forbidden" and not difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.8)


_LIKE = {
    **ASSET_LIKE,
    DEVICE_PATTERN: "auto, cpu, cuda or cuda:N (cuda:0 is the first GPU)",
    METHOD_PATTERN: "lower-case letters, digits and '_', because it names a file in baselines/",
    PATH_PATTERN: PATH_WORDS,
    ROW_PATTERN: "{method}-b{bits}, for instance gptq-b4 or float-b16",
}


def _unknown_names(study: Study, methods: Iterable[str] | None, models: Iterable[str] | None) -> Iterator[str]:
    """Yield methods and models that nothing has, where their kind is looked up."""
    if methods is not None:
        yield from _method_faults(study, set(methods))
    if models is not None:
        for where, names in named_models(study).items():
            for name in names:
                for fault in _unknown("model", {where: [name]}, {*models, UNKNOWN}):
                    yield f"{fault}{path_meant(name, ADD_A_MODEL)}"


def _cross_faults(study: Study) -> Iterator[str]:
    """Yield faults between keys: budgets outside the menu, entries of two lists at once, unknown types."""
    for name in sorted(set(study.methods) & set(study.external)):
        yield f"external: '{name}' is in methods already"
    if study.track in study.limits.tracks:
        yield f"depths.{study.depth}.tracks: '{study.track}' is the study's own track"
    if study.source in study.targets:
        yield f"targets: '{study.source}' is the source already"
    if study.depth not in study.depths:
        yield f"depth: '{study.depth}' has no entry in depths{near(study.depth, study.depths)}"
    ordered = make_menu(study.widths, study.group_size)
    if ordered != study.widths:
        yield f"widths: {study.widths} should rise and repeat nothing: {ordered}"
    yield from _budget_faults(study)
    yield from _row_faults(study)
    for name in study.folds:
        if FoldRef.parse(name).width:
            yield f"folds.{name}: names that end in _w and a width belong to uniform rows: rename it"
    texts = study.evaluation.texts
    for text in study.evaluation.target_texts:
        if text not in texts:
            yield f"evaluation.target_texts: '{text}' is not in evaluation.texts{near(text, texts)}"
    if study.banks and "heldout" not in (set(texts) & set(study.evaluation.target_texts)):
        yield "banks: its rows are compared on 'heldout', which evaluation.texts and target_texts should hold"
    yield from _leak_faults(study)
    yield from _unknown("mix of llama.cpp", {"gguf.mixes": study.gguf.mixes}, set(MIXES))
    yield from _unknown("ggml type", {"gguf.types": study.gguf.types}, set(MENU))
    yield from _league_faults(study)


def _leak_faults(study: Study) -> Iterator[str]:
    """Yield models of the leakage meter that are named: the section plans its own, no other row has them."""
    named = named_models(study) | {f"{where}.models": grid.models for where, grid in _grids(study).items()}
    for where, names in named.items():
        for name in names:
            model, leak = split_leak(name)
            if leak != NO_LEAK:
                yield (
                    f"{where}: '{name}' is calibrated or searched near the held-out text: its rows stand in "
                    f"leakage.csv alone: name {model} here, or in leakage.models"
                )


def _unknown(kind: str, named: Mapping[str, Iterable[str]], known: Set[str]) -> Iterator[str]:
    """Yield the names, by key, that are not among ``known``."""
    for where, names in named.items():
        for name in names:
            if name not in known:
                yield f"{where}: unknown {kind} '{name}'{near(name, known - {UNKNOWN})}"


def _grids(study: Study) -> dict[str, Grid]:
    """Return the league's blocks by key."""
    return {f"league.grids.{name}": grid for name, grid in (study.league.grids if study.league else {}).items()}


def _sections(study: Study) -> dict[str, Grid | Optimum | FoldAblation | Banks]:
    """Return by key the sections that name models and methods or variants of their own."""
    names = ("optimum", "fold_ablation", "banks")
    sections: dict[str, Any] = {name: getattr(study, name) for name in names}
    return {**_grids(study), **{where: section for where, section in sections.items() if section is not None}}


def named_models(study: Study) -> dict[str, list[str]]:
    """Return the models that a study names, by key."""
    others = {f"{where}.models": section.models for where, section in _sections(study).items()}
    others |= {f"{where}.models": list(map(base_model, grid.models)) for where, grid in _grids(study).items()}
    return (
        {"source": [study.source], "targets": study.targets}
        | {f"{name}.models": getattr(study, name).models for name in ("tuning", "gguf", "noise", "leakage")}
        | others
    )


def _method_faults(study: Study, known: Set[str]) -> Iterator[str]:
    """Yield names that neither a file in ``baselines/`` registers (``known``) nor, where they may, a variant has."""
    limits, depth = study.limits, f"depths.{study.depth}"
    named: dict[str, Iterable[str]] = {
        "methods": study.methods,
        "external": study.external,
        "baseline": [study.baseline] if study.baseline else [],
        f"{depth}.extra_methods": limits.extra_methods,
        "params": study.params,
        "deterministic": study.deterministic,
        "halo.methods": study.halo.methods,
        **{f"{depth}.tracks.{track}": _methods_of(rows) for track, rows in limits.tracks.items()},
        f"{depth}.more_budgets": limits.more_budgets,
        f"{depth}.task_rows": _methods_of(limits.task_rows or []),
        **{f"variants.{name}.method": [variant.method] for name, variant in study.variants.items()},
    }
    if study.targets:
        transfer = study.transfer
        named |= {"transfer.methods": transfer.methods, "transfer.rivals": transfer.rivals}
        named["transfer.uniform"] = _methods_of(transfer.uniform)
    if study.banks:
        named["banks.uniform"] = _methods_of(study.banks.uniform)
    if study.tuning.models:
        named["tuning.rows"] = _methods_of(study.tuning.rows)
    if study.leakage.models:
        named["leakage.rows"] = _methods_of(study.leakage.rows)
    if study.gguf.models:
        named["gguf.methods"] = study.gguf.methods
    yield from _unknown("method", named, known)
    for name in study.variants:
        if name in known:
            yield f"variants: '{name}' is registered in baselines/ already: give the variant another name"
    varied = {f"{where}.methods": section.methods for where, section in _sections(study).items()}
    yield from _unknown("method", varied, {*known, *study.variants})


def _row_faults(study: Study) -> Iterator[str]:
    """Yield rows of sections that no such row can be: not quantized, other digits than its name has, no such width."""
    banks, tuning, leakage = study.banks, study.tuning, study.leakage
    named = {
        "banks.uniform": banks.uniform if banks else [],
        "banks.same_allocation": banks.same_allocation if banks else [],
        "tuning.rows": tuning.rows if tuning.models else [],
        "leakage.rows": leakage.rows if leakage.models else [],
    }
    dearest = max(bits_of(width) for width in study.widths)
    for where, rows in named.items():
        for index, name in enumerate(rows):
            row = Row.parse(name)
            if row.method in UNQUANTIZED:
                yield f"{where}[{index}]: '{name}' is not quantized: name a row such as awq_gptq-b4"
            elif row.budget != bits(float(row.budget)):
                yield f"{where}[{index}]: '{name}' is written {row.method}-b{bits(float(row.budget))}"
            elif float(row.budget) < 2 or float(row.budget) > max(8, dearest):
                yield f"{where}[{index}]: '{name}': no row has {row.budget} bits"


def _methods_of(rows: Iterable[str]) -> list[str]:
    """Return the methods of rows, without the two that no file makes."""
    return [method for row in rows if (method := Row.parse(row).method) not in UNQUANTIZED]


def _budget_faults(study: Study) -> Iterator[str]:
    """Yield budgets outside the bits of their menu."""
    named = {"budgets": study.budgets}
    for depth, limits in study.depths.items():
        for key in ("budgets", "control_budgets", "transfer_budgets"):
            named[f"depths.{depth}.{key}"] = getattr(limits, key) or []
        named |= {f"depths.{depth}.more_budgets.{name}": more for name, more in limits.more_budgets.items()}
    named |= {f"{where}.budgets": grid.budgets for where, grid in _grids(study).items()}
    named["banks.budgets"] = study.banks.budgets if study.banks else []
    menu = [bits_of(width) for width in study.widths]
    menus = {where: (numbers, menu) for where, numbers in named.items()}
    if study.optimum:
        menus["optimum.budgets"] = study.optimum.budgets, study.optimum.widths
    for where, (numbers, widths) in menus.items():
        names = [bits(number) for number in numbers]
        for index, (number, name) in enumerate(zip(numbers, names, strict=True)):
            if number < min(widths):
                yield f"{where}[{index}]: {number:g} bits is below the cheapest width of the menu, {min(widths)}"
            elif number > max(widths):
                yield f"{where}[{index}]: {number:g} bits is above the dearest width of the menu, {max(widths)}"
            elif number != float(name):
                yield f"{where}[{index}]: {number!r} has more digits than the name of a row, write {name}"
            elif name in names[:index]:
                yield f"{where}[{index}]: {name} bits are listed twice"


def _league_faults(study: Study) -> Iterator[str]:
    """Yield search texts that make rows incomparable, widths that no bank has, unknown folds."""
    first: dict[str, tuple[str, Search | None]] = {}
    for where, grid in _grids(study).items():
        for model in grid.models:
            before, text = first.setdefault(model, (where.rpartition(".")[2], grid.search))
            if text != grid.search:
                yield (
                    f"{where}.search: {model} has another search text in grid '{before}', and their rows "
                    "cannot be compared: give both the same"
                )
    for index, width in enumerate(study.optimum.widths if study.optimum else []):
        if width not in study.widths:
            yield f"optimum.widths[{index}]: {width} is not in the study's widths {study.widths}, which its bank holds"
    if study.fold_ablation:
        folds = study.fold_ablation.folds
        yield from _unknown("fold", {"fold_ablation.folds": folds}, {*study.folds, "none"})
        if "none" not in folds:
            yield "fold_ablation.folds: 'none' is missing: it is what the others are compared with"


def read(path: str | Path) -> dict[str, Any]:
    """Read a YAML file as a dict; ``ConfigError`` names the file, and the line where it is no YAML."""
    if not Path(path).exists():
        raise ConfigError(f"no configuration file {path}: check the path")
    try:
        values = read_yaml(path, "configuration file")
    except YamlError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys: see config/config.yaml")
    if RUNS_CODE in values:
        raise ConfigError(f"{path}: with '{RUNS_CODE}' Snakemake runs Python that the file holds: take the key out")
    return values
