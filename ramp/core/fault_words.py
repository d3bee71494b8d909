"""Faults that pydantic finds in what a person wrote, as sentences: the key, the value, what it should be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args, get_origin

from ramp.core.nearest_name import near
from ramp.core.safe_name import LONGEST_NAME, NAME_PATTERN

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

Place = tuple[int | str, ...]
"""Keys, and positions in lists, that lead to a value: ``("depths", "quick", "seeds", 0)``."""

SHOULD = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text: put a number or a date in quotes",
    "dict": "keys, each with a value (KEY: VALUE)",
    "model": "keys, each with a value",
    "list": "a list, in brackets and with commas: [ONE, ANOTHER]",
    "tuple": "a list, in brackets and with commas: [ONE, ANOTHER]",
}
"""What a value of another type should be, by the first word of pydantic's name of the fault."""

LIKE = {NAME_PATTERN: "lower-case letters, digits, '.', '-' and '_', because it becomes a file name"}
"""What a text should be made of, by the pattern that it does not match."""


def dotted(place: Place) -> str:
    """Return ``("depths", "quick", "seeds", 0)`` as ``depths.quick.seeds[0]``."""
    return re.sub(r"\.(\[)", r"\1", ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in place))


def fields_at(model: type[BaseModel], place: Iterable[int | str]) -> dict[str, Any]:
    """Return the fields that the section at ``place`` below a model may have."""
    section: Any = model
    for part in place:
        field = getattr(section, "model_fields", {}).get(part)
        if field is not None:
            section = field.annotation
        elif (arguments := getattr(section, "__args__", None)) is not None:  # dict[name, Section]
            section = arguments[-1]
        if get_origin(section) is not dict:  # Section | None; of several models nobody knows which is meant
            sections = [one for one in get_args(section) if hasattr(one, "model_fields")]
            section = sections[0] if len(sections) == 1 else section
    return getattr(section, "model_fields", {})


def placed(error: ValidationError, values: Any) -> Iterator[tuple[Place, Any]]:
    """Yield each fault of ``values`` with its place, and without those that another one brings along.

    These are a list that is empty because its items have faults, and further types that a value could have had.
    """
    found: dict[Place, Any] = {}
    for fault in error.errors():
        found.setdefault(_place(fault, values), fault)
    for place, fault in found.items():
        inside = any(other[: len(place)] == place for other in found if other != place)
        if not (inside and fault["type"] == "too_short"):
            yield place, fault


def _place(fault: Any, values: Any) -> Place:
    """Return where a fault lies: pydantic's place, without its marks of keys and of types, which nobody wrote."""
    found: list[int | str] = []
    for number, part in enumerate(fault["loc"], start=1):
        of_kind = isinstance(values, Mapping) and values.get("kind") == part and number < len(fault["loc"])
        known = part in values if isinstance(values, Mapping) else isinstance(part, int)
        if known and not of_kind:
            values = values[part] if isinstance(values, Mapping | list | tuple) else None
            found.append(part)
    return (*found, fault["loc"][-1]) if fault["type"] == "missing" else tuple(found)


def in_words(model: type[BaseModel], place: Place, fault: Any, like: Mapping[str, str] = LIKE) -> str:
    """Return one sentence on a fault at a place below a ``model``; ``like`` has the words of its patterns."""
    kind, given, told = fault["type"], fault["input"], fault.get("ctx", {})
    where, first = dotted(place), kind.partition("_")[0]
    if kind == "invalid_key" or (fault["loc"][-1:] == ("[key]",) and not isinstance(given, str)):
        above = dotted(place[:-1] if place[-1:] == (given,) else place)
        return f"the key {value_text(given)}{f' in {above!r}' if above else ''} is not text: put it in quotes"
    shown = f"{where}: {value_text(given)}" if where else value_text(given)
    if kind == "extra_forbidden":
        above = f"in '{dotted(place[:-1])}'" if len(place) > 1 else "at top level"
        fields = fields_at(model, place[:-1])
        return f"unknown key '{place[-1]}' {above}{near(str(place[-1]), fields) if fields else ''}"
    if kind == "missing":
        return f"{where}: missing; it has no default"
    if kind == "value_error" and given is not None:  # the message of a validator of ours, which names the value
        return f"{where}{': ' if where else ''}{fault['msg'].removeprefix('Value error, ')}"
    if given is None:
        return f"{where}{' ' if where else ''}is empty: give it a value, or take it out"
    if kind == "string_pattern_mismatch":
        return f"{shown} is not allowed: use {like.get(told['pattern'], 'what matches ' + told['pattern'])}"
    if kind == "string_too_long" and told["max_length"] == LONGEST_NAME:
        return f"{shown} is too long: a name has at most {LONGEST_NAME} characters"
    if kind == "literal_error":
        valid = re.findall(r"'([^']*)'", told["expected"])
        hint = near(str(given), valid) if valid else f" (known: {told['expected']})"
        return f"{shown} is not known{hint}"
    if kind.startswith("union_tag"):
        key, valid = told["discriminator"].strip("'"), re.findall(r"'([^']*)'", told.get("expected_tags", ""))
        if (tag := given.get(key)) is None:
            return f"{where}.{key}: missing; it has no default"
        return f"{where}.{key}: {value_text(tag)} is not known{near(str(tag), valid)}"
    if kind == "too_short":
        return f"{shown} has too few entries: give at least {told['min_length']}"
    if first == "string" and isinstance(given, list | dict):
        return f"{shown} should be one text, not a list or keys"
    if first in SHOULD and kind not in ("string_too_short", "string_too_long"):
        known = f" (known: {', '.join(sorted(fields_at(model, place)))})" if first == "model" else ""
        return f"{shown} should be {SHOULD[first]}{known}"
    return f"{shown} {fault['msg'].replace('Input should be', 'should be')}"


def value_text(value: Any) -> str:
    """Return a value much as it stands in YAML, in one line and not longer than one."""
    if isinstance(value, str):
        text = f"'{' '.join(value.split())}'"
    elif isinstance(value, dict | list | tuple | bool | None):
        text = json.dumps(value, default=str, skipkeys=True, ensure_ascii=False)
    else:
        text = str(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."
