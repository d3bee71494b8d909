"""Bounds of what a ``config.json`` may say, checked before transformers or anything here builds by it.

Lists of blocks, rotary tables and empty models grow with these numbers, and a file of a hundred bytes may hold any.
Each bound is some ten times that of the largest published decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from ramp.core.fault_words import in_words, placed
from ramp.models.architecture import ModelError


class ConfigLimits(BaseModel):
    """Sizes of a decoder; keys that are absent or null are left to the family's defaults, others are not looked at."""

    model_config = ConfigDict(extra="ignore")

    num_hidden_layers: Annotated[StrictInt, Field(ge=1, le=1_000)] | None = None
    hidden_size: Annotated[StrictInt, Field(ge=1, le=200_000)] | None = None
    intermediate_size: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    num_attention_heads: Annotated[StrictInt, Field(ge=1, le=2_000)] | None = None
    num_key_value_heads: Annotated[StrictInt, Field(ge=1, le=2_000)] | None = None
    head_dim: Annotated[StrictInt, Field(ge=1, le=8_192)] | None = None
    vocab_size: Annotated[StrictInt, Field(ge=1, le=4_000_000)] | None = None
    max_position_embeddings: Annotated[StrictInt, Field(ge=1, le=20_000_000)] | None = None
    sliding_window: StrictInt | None = None


def check_limits(values: Any, file: str | Path) -> Mapping[str, Any]:
    """Return the ``values`` of ``file``; raise ``ModelError`` where they are no mapping, or a size in them, or in a
    configuration inside them, is no whole number or beyond any model's."""
    if not isinstance(values, Mapping):
        raise ModelError(f"{file} is no configuration of a model: fetch the file again")
    _check(values, file)
    return values


def _check(values: Mapping[str, Any], file: str | Path) -> None:
    for inner in values.values():
        if isinstance(inner, Mapping):
            _check(inner, file)
    try:
        ConfigLimits.model_validate(dict(values))
    except ValidationError as error:
        faults = "; ".join(in_words(ConfigLimits, *fault) for fault in placed(error, values))
        raise ModelError(f"{file}: {faults}: no model is of that size, fetch the file again") from None
