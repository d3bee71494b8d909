"""Units of a problem small enough to enumerate: the last few half-blocks, or the last few linears, of a model.

Everything before the first unit stays float. Allocators know linears, so a unit of several linears is given to them as
one: its bytes, sensitivities and parameters are the sums of its members', its features their mean weighted by
parameters, its role that of the member that writes into the residual stream (``o`` or ``down``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ramp.core.errors import RampError
from ramp.models.architecture import ATTENTION_ROLES, LinearSpec


class OptimumError(RampError):
    """A problem that cannot be enumerated, or an enumeration that is missing, damaged or of another model."""


@dataclass(frozen=True)
class Unit:
    """Linears that get one width together."""

    spec: LinearSpec  # as allocators see it
    members: tuple[LinearSpec, ...]

    @property
    def half(self) -> tuple[int, str]:
        """Its half-block: (layer, ``attention`` or ``mlp``)."""
        return half_of(self.members[0])


def half_of(linear: LinearSpec) -> tuple[int, str]:
    """Return the half-block of a linear."""
    return linear.layer, "attention" if linear.role in ATTENTION_ROLES else "mlp"


def parse(name: str) -> tuple[str, int]:
    """Return ``halves-8`` as (kind, count)."""
    match = re.fullmatch(r"(halves|linears)-([2-8])", name)
    if match is None:
        raise OptimumError(f"units '{name}' are unknown: write halves-N or linears-N with N from 2 to 8")
    return match.group(1), int(match.group(2))


def make_units(linears: Sequence[LinearSpec], name: str) -> list[Unit]:
    """Return the last units of a model in forward order, as ``name`` (``halves-8``) says.

    Raises:
        OptimumError: the model has fewer.
    """
    kind, count = parse(name)
    groups: dict[object, list[LinearSpec]] = {}
    for linear in linears:
        groups.setdefault(half_of(linear) if kind == "halves" else linear.index, []).append(linear)
    found = [_unit(members) for members in groups.values()]
    if len(found) < count:
        raise OptimumError(f"the model has {len(found)} {kind}, {count} are asked for: lower the count")
    return [
        Unit(replace(unit.spec, index=index), unit.members) for index, unit in enumerate(found[len(found) - count :])
    ]


def _unit(members: Sequence[LinearSpec]) -> Unit:
    if len(members) == 1:
        return Unit(members[0], (members[0],))
    first, last = members[0], members[-1]
    layer, half = half_of(first)
    params = sum(member.params for member in members)
    name = f"{first.site.rpartition('.')[0]}.{half}"
    spec = LinearSpec(name, layer, last.role, params // first.d_in, first.d_in, first.site, 0, False)
    if spec.params != params:
        raise OptimumError(f"{name} has {params} weights, no multiple of its input of {first.d_in}: take linears")
    return Unit(spec, tuple(members))


def averaged(units: Sequence[Unit], values: np.ndarray) -> np.ndarray:
    """Return features of all linears [linears, f] as those of units [n, f], weighted by parameters."""
    rows = []
    for unit in units:
        weights = np.array([member.params for member in unit.members], dtype=np.float64)
        rows.append(weights @ values[[member.index for member in unit.members]] / weights.sum())
    return np.stack(rows).astype(np.float32)
