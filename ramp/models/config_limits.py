"""Bounds of what a ``config.json`` may say, checked before transformers or anything here builds by it.

Lists of blocks, rotary tables and empty models grow with these numbers, and a file of a hundred bytes may hold any.
Each bound is some ten times that of the largest published decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from ramp.models.architecture import ModelError


def _upto(most: int) -> Any:
    return Annotated[StrictInt, Field(ge=1, le=most)] | None


class ConfigLimits(BaseModel):
    """Sizes of a decoder; keys that are absent or null are left to the family's defaults, others are not looked at."""

    model_config = ConfigDict(extra="ignore")

    num_hidden_layers: _upto(1_000) = None
    hidden_size: _upto(200_000) = None
    intermediate_size: _upto(1_000_000) = None
    num_attention_heads: _upto(2_000) = None
    num_key_value_heads: _upto(2_000) = None
    head_dim: _upto(8_192) = None
    vocab_size: _upto(4_000_000) = None
    max_position_embeddings: _upto(20_000_000) = None


def check_limits(values: Any, file: str | Path) -> None:
    """Raise ``ModelError`` where ``values`` of ``file`` are no mapping, or a size is no whole number or beyond any
    model's."""
    if not isinstance(values, Mapping):
        raise ModelError(f"{file} is no configuration of a model: fetch the file again")
    try:
        ConfigLimits.model_validate(dict(values))
    except ValidationError as error:
        faults = "; ".join(
            f"{fault['loc'][0]} is {str(fault['input'])[:40]!r}, {_why(fault)}" for fault in error.errors()
        )
        raise ModelError(f"{file}: {faults}: no model is of that size, fetch the file again") from None


def _why(fault: Any) -> str:
    return str(fault["msg"]).replace("Input should be", "which should be")
