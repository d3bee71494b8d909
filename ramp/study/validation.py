"""A configuration checked at start: all faults at once, each with its path and the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from ramp.core.errors import RampError
from ramp.methods.kinds import FoldRef
from ramp.quantizers.widths import bits_of, make_menu
from ramp.study.config import Study
from ramp.study.config_types import METHOD_PATTERN, NAME_PATTERN, PATH_PATTERN, ROW_PATTERN
from ramp.study.row_names import FLOAT, RELEASED, Row
from ramp.study.validation_league import (
    league_faults,
    league_methods_faults,
    league_models,
    near,
    number_faults,
    repeated,
)


class ConfigError(RampError):
    """The configuration has faults; the message has one line for each."""


def validate(
    values: Mapping[str, Any],
    *,
    methods: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
) -> Study:
    """Check ``values`` and return the study; raise ``ConfigError`` with every fault on a line of its own.

    ``methods`` are the names that ``baselines/`` registers, ``models`` those of the registry; where one of them is
    None, names of that kind are not looked up. Faulty keys are set aside and the rest is checked further, so that one
    run shows all that is wrong.
    """
    faults: list[str] = []
    kept = _plain(values)
    study = None
    for _ in range(2):
        try:
            study = Study.model_validate(kept)
            break
        except ValidationError as error:
            for fault in error.errors():
                path = tuple(part for part in fault["loc"] if part != "[key]")  # pydantic's mark for a bad key
                faults.append(_sentence(path, fault))
                # a section that lacks a key is set aside whole: without it nothing in it can be checked
                _drop(kept, path[:-1] if fault["type"] == "missing" and len(path) > 1 else path)
        kept = {"study": "unnamed", "source": _UNKNOWN, **kept}
    if study is not None:
        faults += _cross_faults(study, methods, models)
    if faults:
        raise ConfigError("\n".join(faults))
    assert study is not None  # two passes: the second one holds no faulty key
    return study


_UNKNOWN = "unknown-source"


def _plain(values: Any) -> Any:
    """Return nested plain dicts and lists (Snakemake's own types copied), safe to edit."""
    if isinstance(values, Mapping):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return values


def _drop(values: Any, path: tuple[int | str, ...]) -> None:
    """Remove the key at ``path``; a fault inside a list removes the whole list's key."""
    for depth, part in enumerate(path):
        if not isinstance(values, dict) or part not in values:
            return
        if depth == len(path) - 1 or not isinstance(values[part], dict):
            del values[part]
            return
        values = values[part]


def _dotted(path: Iterable[int | str]) -> str:
    """Return ``('depths', 'quick', 'seeds', 0)`` as ``depths.quick.seeds[0]``."""
    return re.sub(r"\.(\[)", r"\1", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path))


def _fields_at(path: Iterable[int | str]) -> dict[str, Any]:
    """Return the keys that the section at ``path`` may have."""
    section: Any = Study
    for part in path:
        field = getattr(section, "model_fields", {}).get(part)
        if field is not None:
            section = field.annotation
        elif (arguments := getattr(section, "__args__", None)) is not None:  # dict[name, Section]
            section = arguments[-1]
        if get_origin(section) is not dict:  # Section | None
            section = next((one for one in get_args(section) if hasattr(one, "model_fields")), section)
    return getattr(section, "model_fields", {})


_LIKE = {
    NAME_PATTERN: "lower-case letters, digits, '.', '-' and '_', because it becomes a file name",
    METHOD_PATTERN: "lower-case letters, digits and '_', because it names a file in baselines/",
    PATH_PATTERN: "a path without blanks, shell characters and '..'",
    ROW_PATTERN: "{method}-b{bits}, for instance gptq-b4 or float-b16",
}


def _sentence(path: tuple[int | str, ...], fault: Any) -> str:
    """Return one pydantic error in words."""
    where = _dotted(path)
    if fault["type"] == "extra_forbidden":
        above = f"in '{_dotted(path[:-1])}'" if len(path) > 1 else "at top level"
        return f"unknown key '{path[-1]}' {above}{near(str(path[-1]), _fields_at(path[:-1]))}"
    if fault["type"] == "missing":
        return f"{where}: missing; it has no default"
    if fault["type"] == "string_pattern_mismatch":
        like = _LIKE.get(fault["ctx"]["pattern"], f"matching {fault['ctx']['pattern']}")
        return f"{where}: '{fault['input']}' is not allowed: use {like}"
    if fault["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
        hint = near(str(fault["input"]), valid) if valid else f" (known: {fault['ctx']['expected']})"
        return f"{where}: '{fault['input']}' is not known{hint}"
    if fault["type"] == "value_error":  # the message of a validator of ours, which names the value
        return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
    message = fault["msg"].replace("Input should be", "should be")
    return f"{where}: {fault['input']!r} {message}"


def _cross_faults(study: Study, methods: Iterable[str] | None, models: Iterable[str] | None) -> list[str]:
    """Return faults between keys: unknown names, budgets outside the menu, repeated entries."""
    faults = []
    if methods is not None:
        known = set(methods)
        listed = {
            "methods": study.methods,
            "external": study.external,
            "baseline": [study.baseline] if study.baseline else [],
            f"depths.{study.depth}.extra_methods": study.limits.extra_methods,
            "params": [*study.params],
            "transfer.methods": study.transfer.methods if study.targets else [],
            "transfer.rivals": study.transfer.rivals if study.targets else [],
            "transfer.uniform": [Row.parse(row).method for row in study.transfer.uniform] if study.targets else [],
            "halo.methods": study.halo.methods,
            **{
                f"depths.{study.depth}.tracks.{track}": [Row.parse(row).method for row in rows]
                for track, rows in study.limits.tracks.items()
            },
            f"depths.{study.depth}.more_budgets": [*study.limits.more_budgets],
            f"depths.{study.depth}.task_rows": [Row.parse(row).method for row in study.limits.task_rows or []],
        }
        for where, names in listed.items():
            for name in names:
                if name not in known and name not in (FLOAT, RELEASED):
                    faults.append(f"{where}: unknown method '{name}'{near(name, known)}")
        faults += league_methods_faults(study, known)
    if models is not None:
        known = set(models)
        for where, names in {"source": [study.source], "targets": study.targets, **league_models(study)}.items():
            for name in names:
                if name not in known and name != _UNKNOWN:
                    faults.append(f"{where}: unknown model '{name}'{near(name, known)}")
    once = {"methods": study.methods, "external": study.external, "targets": study.targets}
    once |= {"transfer.methods": study.transfer.methods, "transfer.rivals": study.transfer.rivals}
    for where, names in {**once, "tasks.names": study.tasks.names}.items():
        faults += repeated(where, names)
    for name in sorted(set(study.methods) & set(study.external)):
        faults.append(f"external: '{name}' is in methods already")
    if study.track in study.limits.tracks:
        faults.append(f"depths.{study.depth}.tracks: '{study.track}' is the study's own track")
    if study.source in study.targets:
        faults.append(f"targets: '{study.source}' is the source already")
    if study.depth not in study.depths:
        faults.append(f"depth: '{study.depth}' has no entry in depths{near(study.depth, study.depths)}")
    budgets = {"budgets": study.budgets}
    for depth, limits in study.depths.items():
        budgets[f"depths.{depth}.budgets"] = limits.budgets or []
        budgets[f"depths.{depth}.control_budgets"] = limits.control_budgets
        budgets[f"depths.{depth}.transfer_budgets"] = limits.transfer_budgets or []
        budgets |= {f"depths.{depth}.more_budgets.{name}": more for name, more in limits.more_budgets.items()}
    menu = [bits_of(width) for width in study.widths]
    for where, numbers in budgets.items():
        faults += number_faults(where, numbers, menu)
    ordered = make_menu(study.widths, study.group_size)
    if ordered != study.widths:
        faults.append(f"widths: {study.widths} should rise and repeat nothing: {ordered}")
    faults += league_faults(study)
    for name in study.folds:
        if FoldRef.parse(name).width:
            faults.append(f"folds.{name}: names that end in _w and a width belong to uniform rows: rename it")
    for text in study.evaluation.target_texts:
        if text not in study.evaluation.texts:
            faults.append(
                f"evaluation.target_texts: '{text}' is not in evaluation.texts{near(text, study.evaluation.texts)}"
            )
    return faults


def read(path: str | Path) -> dict[str, Any]:
    """Read a YAML file as a dict; ``ConfigError`` names the file where it is none."""
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}: check the path") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no keys: see config/config.yaml")
    return values
