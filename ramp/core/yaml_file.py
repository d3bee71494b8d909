"""YAML that a person wrote: read within bounds, with the line of what is wrong."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ramp.core.atomic_files import read_text
from ramp.core.errors import RampError

MOST_VALUES = 100_000  # with every alias written out; the largest file of the project has some 1,000
DEEPEST = 32  # lists and mappings inside each other; the deepest of the project has 8


class YamlError(RampError):
    """A file that is no YAML, or more of it than anyone writes."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that is written twice: the first would be lost without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":  # `<<` may be overridden
            continue
        name = loader.construct_object(key, deep=True)
        if isinstance(key, yaml.ScalarNode) and not isinstance(name, str):
            told = f"the key '{key.value}' is no text for YAML, put it in quotes" if key.value else "a key is empty"
            raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
        if isinstance(name, Hashable) and name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{name}' is written twice", key.start_mark)
        seen.add(name if isinstance(name, Hashable) else id(name))
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: str | Path, what: str) -> Any:
    """Return the content of a YAML file; ``YamlError`` with its line, ``RampError`` where there is no such file."""
    text = read_text(path, what)
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise YamlError(f"{path}{_place(error)} is not valid YAML: correct it") from None
    except RecursionError:
        raise YamlError(f"{path} is nested too deeply: at most {DEEPEST} levels") from None
    except ValueError as error:  # of a value that looks like a date or a number
        raise YamlError(f"{path} holds a value that is none ({error}): put it in quotes") from None
    check_extent(values, str(path))
    return values


def _place(error: yaml.YAMLError) -> str:
    """Return where a parser stopped, and why, as far as it says so."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return f"{place} ({' '.join(problem.split())[:200]})"


def check_extent(values: Any, what: str) -> None:
    """Raise ``YamlError`` where ``values`` hold themselves, or more than anyone writes once aliases are written out.

    An alias costs nothing where it is read and everything where it is copied or checked: nine lines of aliases to lists
    of nine aliases are 9^9 values.
    """
    sizes: dict[int, int] = {}

    def size(value: Any, depth: int) -> int:
        if not isinstance(value, (dict, list, tuple)):
            return 1
        if depth > DEEPEST:
            raise YamlError(f"{what} is nested too deeply: at most {DEEPEST} levels")
        if (known := sizes.get(id(value))) is not None:
            return known
        total = 1 + sum(size(each, depth + 1) for each in (value.values() if isinstance(value, dict) else value))
        if total > MOST_VALUES:
            raise YamlError(f"{what} holds more than {MOST_VALUES:,} values once its aliases are written out")
        sizes[id(value)] = total
        return total

    size(values, 1)
