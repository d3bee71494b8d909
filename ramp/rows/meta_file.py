"""``meta.json`` of a row, checked: the record key, and the fields that its readers go by. Light: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ramp.core.atomic_files import read_json, require_file
from ramp.core.errors import RampError
from ramp.core.safe_path import below

META = "meta.json"
AGAIN = "delete the row and quantize it again"
Number = int | float
"""A number as it is written: 4 stays 4."""


class RowKey(BaseModel):
    """The record key: which row of the records a file is of."""

    model_config = ConfigDict(extra="allow")

    study: str  # its name
    model: str  # name of its folder
    method: str  # or package, float, released
    grid: str  # of the codes: affine, ggml, package, float or released
    stage: str  # final, tuned, float or released
    budget_bits: Number  # bits per weight
    group_size: int  # weights that share one scale, as asked for
    fold: str  # kind of scales folded, or none
    seed: int  # of every random draw


KEY = tuple(RowKey.model_fields)


class RowMeta(RowKey):
    """Fields that ``meta.json`` must have; others are kept as they are."""

    track: str | None = None
    note: str = ""
    sha256: str | None = None  # of the packed file, or of the GGUF file
    gguf: str | None = None  # path of the GGUF file, relative to the row's folder
    failed: str | None = None  # why there is no row
    simulated: bool = True
    package_versions: dict[str, str] = {}


def read_meta(row_dir: str | Path) -> dict[str, Any]:
    """Return a row's ``meta.json``; ``DamagedFile`` where it lacks a field of the key, or holds one of another type."""
    path = require_file(Path(row_dir) / META, "row's meta.json")
    return read_json(path, RowMeta, sealed=True, again=AGAIN).model_dump(exclude_unset=True)


def read_meta_of(row_dir: Path, model_dir: Path) -> dict[str, Any]:
    """Return a row's ``meta.json``; ``RampError`` where ``model_dir`` is another model's.

    A packed row carries its weights, so another model's head and tokenizer would score it without a fault.
    """
    meta, names = read_meta(row_dir), (model_dir.name, model_dir.resolve().name)  # of a link too
    if meta["model"] not in names:
        raise RampError(
            f"{row_dir} is a row of {meta['model']}, {model_dir} is named {names[1]}: pass the folder of its model"
        )
    return meta


def gguf_of(row_dir: Path, name: object) -> Path:
    """Return the GGUF file that the meta.json of a row names: in the row's folder, or elsewhere in its study.

    A row lies in R/quantized/MODEL/ROW. ``RampError`` for a path that leads out of R."""
    parts = str(name).split("/")
    up = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
    return below(row_dir.joinpath(*parts[: min(up, 3)]), "/".join(parts[min(up, 3) :]), row_dir / META)
