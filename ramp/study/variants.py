"""Variants: a method with other parameters under a name of its own, so that every switch can have a row.

A variant's parameters are laid over its method's own defaults, key by key and inside nested parameters too:
``{reward: {k_c: 0}}`` takes the cliff away and leaves the other terms as that very method has them, where a plain
``reward:`` in ``params:`` would start again from the defaults of the reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ramp.methods.kinds import Method, MethodError
from ramp.methods.loader import parse_params


def overlaid(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``changes`` over ``values``; mappings that both have are laid over each other in turn."""
    merged = dict(values)
    for key, new in changes.items():
        old = merged.get(key)
        merged[key] = overlaid(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else new
    return merged


def variant_params(name: str, method: Method, base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return all parameters of a variant, as ``params:`` of its method would have to hold them.

    Args:
        base: what the study's ``params`` say of the method.
        changes: the variant's own parameters.

    Raises:
        MethodError: an unknown key, with the nearest valid one, or a value that the method refuses.
    """
    merged = overlaid(parse_params(method, dict(base)).model_dump(mode="json"), changes)
    try:
        parse_params(method, merged)
    except MethodError as error:
        raise MethodError(f"variant '{name}': {error}") from None
    return merged
