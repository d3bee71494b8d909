"""Rows that tests make for themselves: their key, and packed checkpoints of models rounded to nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ramp.models.folder import ModelFolder
from ramp.quantizers.affine import QuantizedLinear, quantize_rtn
from ramp.quantizers.sizes import group_size_for
from ramp.rows.checkpoint import save_packed


def row_key(**changes: Any) -> dict[str, Any]:
    """Return the nine columns that name a row."""
    made = {"study": "test", "model": "tiny", "method": "rtn", "grid": "affine", "stage": "final", "budget_bits": 4.0}
    return made | {"group_size": 32, "fold": "none", "seed": 0} | changes


def rtn_parts(
    model_dir: Path, bits: int, group_size: int = 32
) -> tuple[dict[str, QuantizedLinear], dict[str, torch.Tensor]]:
    """Return every linear rounded to nearest, the second one at 3 bits whatever the others have, and the rest."""
    folder, quantized = ModelFolder(model_dir), {}
    for linear in folder.linears:
        weight = folder.reader.get(f"{linear.name}.weight")
        width = 3 if linear.index == 1 else bits
        quantized[linear.name] = quantize_rtn(weight, width, group_size_for(linear.d_in, group_size))
    names = [name for name in folder.reader.names() if name.removesuffix(".weight") not in quantized]
    return quantized, {name: folder.reader.get(name) for name in names}


def write_row(folder: Path, model_dir: Path, track: str = "q8_0", bits: int = 4, **changes: Any) -> dict[str, Any]:
    """Pack a row into ``folder``; return its meta.json."""
    meta = row_key(model=model_dir.name, budget_bits=float(bits)) | changes
    quantized, others = rtn_parts(model_dir, bits, meta["group_size"])
    return save_packed(folder, model_dir=model_dir, quantized=quantized, others=others, track=track, meta=meta)
