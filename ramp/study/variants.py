"""Variants: a method with other parameters under a name of its own, so that every switch can have a row.

A variant's parameters are laid over its method's own defaults, key by key and inside nested parameters too:
``{reward: {k_c: 0}}`` takes the cliff away and leaves the other terms as that very method has them, where a plain
``reward:`` in ``params:`` would start again from the defaults of the reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ramp.core.nearest_name import nearest
from ramp.methods.kinds import Method, MethodError
from ramp.methods.loader import parse_params


def overlaid(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``changes`` over ``values``; mappings that both have are laid over each other in turn."""
    merged = dict(values)
    for key, new in changes.items():
        old = merged.get(key)
        merged[key] = overlaid(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else new
    return merged


def check_keys(name: str, params: BaseModel, changes: Mapping[str, Any], above: str = "") -> None:
    """Raise ``MethodError`` for a key that ``params`` lacks, naming the nearest one at its own level."""
    fields = type(params).model_fields
    for key, new in changes.items():
        if key not in fields:
            hint = nearest(str(key), fields) or f" (known: {', '.join(fields)})"
            raise MethodError(f"variant '{name}': unknown key '{above}{key}'{hint}")
        own = getattr(params, key)
        if isinstance(new, Mapping) and isinstance(own, BaseModel):
            check_keys(name, own, new, f"{above}{key}.")


def variant_params(name: str, method: Method, base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a variant, as ``params:`` of its method would have to hold them.

    Args:
        base: what the study's ``params`` say of the method.
        changes: the variant's own parameters.

    Raises:
        MethodError: an unknown key, with the nearest valid one, or a value that the method refuses.
    """
    own = parse_params(method, dict(base))
    check_keys(name, own, changes)
    merged = overlaid(own.model_dump(mode="json"), changes)
    try:
        parse_params(method, merged)
    except MethodError as error:
        raise MethodError(f"variant '{name}': {error}") from None
    return merged
