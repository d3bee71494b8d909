"""Rows without quantization: the float model and the released file, as ``meta.json`` alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramp.core.atomic_files import read_json, require_file
from ramp.methods.names import FLOAT
from ramp.models.asset_file import AGAIN, FILE, ModelAsset, read_model_asset
from ramp.models.config_agreement import parameter_shapes
from ramp.models.folder import ModelFolder


@dataclass(frozen=True)
class Released:
    """Fields of a model's ``asset.json`` on its released file."""

    released_format: str
    released_bytes: int
    linears_released_bytes: int


def special_meta(method: str, model_dir: str | Path, study: str, seed: int) -> dict[str, Any]:
    """Return ``meta.json`` of the float model (a hypothetical 16-bit file) or of the released file."""
    model = ModelFolder(model_dir)
    require_file(model.path / FILE, "the model's asset.json")
    asset = read_model_asset(model.path) or ModelAsset()
    embed, head = f"{model.architecture.embed}.weight", f"{model.architecture.head}.weight"
    model.check()
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(model.config).items()}
    params, linear_params = sum(sizes.values()), sum(linear.params for linear in model.linears)
    bits: float | None
    if method == FLOAT:
        note, track, bits = "size of a hypothetical 16-bit file, no such file was written", "fp16", 16.0
        parts = {"linear": 2 * linear_params, "embedding": 2 * sizes[embed], "head": 2 * sizes.get(head, 0)}
        total, rest = 2 * params, 2 * params - sum(parts.values())
        stored: dict[str, int | None] = {**parts, "other": rest, "file": total}
    else:
        released = read_json(model.path / FILE, Released, sealed=True, again=AGAIN)
        track, bits = released.released_format, None
        note, total, linear = f"released file ({track})", released.released_bytes, released.linears_released_bytes
        stored = {"linear": linear, "embedding": None, "head": None, "other": None, "file": total}
    return {
        "study": study, "model": model.name, "method": method, "grid": method, "stage": method,
        "budget_bits": 16.0, "group_size": 0, "fold": "none", "seed": seed, "track": track, "simulated": True,
        **{f"bytes_{part}": size for part, size in stored.items()},
        "bits_nominal": bits, "bits_nominal_unweighted": bits,
        "bpw_linear": 8 * (stored["linear"] or 0) / linear_params, "bpw_file": 8 * total / params,
        "wall_s": None, "peak_rss_bytes": None, "peak_gpu_bytes": None,
        "note": "; ".join(filter(None, (note, asset.note or ""))), "tied_embeddings": model.tied,
    }  # fmt: skip
