"""The record of ``ramp.league.acceptance``, read by the league: a model that is not worth quantizing is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ramp.core.atomic_files import read_json, require_file
from ramp.core.errors import RampError


class LeagueError(RampError):
    """A league run that cannot be made, or a model that is not worth quantizing."""


class Acceptance(BaseModel):
    """Fields that the record must have; others are kept as they are."""

    model_config = ConfigDict(extra="allow")

    model: str
    accepted: bool
    bits: int
    increase_own: int | float | None  # None: beyond every number
    limit: int | float


def read_acceptance(path: Path) -> dict[str, Any]:
    """Return the record; ``LeagueError`` where it refuses the model."""
    again = "delete it and run ramp.league.acceptance again"
    record = read_json(require_file(path, "acceptance of the model"), Acceptance, sealed=True, again=again)
    if not record.accepted:
        own = record.increase_own
        raise LeagueError(
            f"{record.model} is not worth quantizing: uniform {record.bits}-bit RTN costs it "
            f"{'infinitely much' if own is None else f'{100 * own:.1f} %'} perplexity on its own text, "
            f"{100 * record.limit:g} % are asked for; train it longer (train_steps) or lower league.accept.increase"
        )
    return record.model_dump(exclude_unset=True)
