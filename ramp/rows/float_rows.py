"""Rows that nothing is quantized for: the float model and the released file, as ``meta.json`` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ramp.core.files import read_json, require_file
from ramp.models.architecture import architecture, list_linears
from ramp.models.folder import CheckpointReader, read_config

SPECIAL = ("float", "released")
"""Rows that are the float model itself and differ in the sizes that they stand for."""


def special_meta(method: str, model_dir: str | Path, study: str, seed: int) -> dict[str, Any]:
    """``meta.json`` of the float model or of the released file: sizes alone."""
    config, reader = read_config(model_dir), CheckpointReader(model_dir)
    arch, linears = architecture(config), list_linears(config)
    tied = bool(config.tie_word_embeddings)
    asset = read_json(require_file(Path(model_dir) / "asset.json", "the model's asset.json"))
    key = {
        "study": study, "model": Path(model_dir).name, "method": method, "grid": method, "stage": method,
        "budget_bits": 16.0, "group_size": 0, "fold": "none", "seed": seed,
    }  # fmt: skip
    sizes = {name: _numel(reader, name) for name in reader.names() if not (tied and name == f"{arch.head}.weight")}
    params, linear_params = sum(sizes.values()), sum(linear.params for linear in linears)
    note = str(asset.get("note") or "")
    if method == "float":
        parts = {
            "bytes_linear": 2 * linear_params,
            "bytes_embedding": 2 * sizes[f"{arch.embed}.weight"],
            "bytes_head": 2 * sizes.get(f"{arch.head}.weight", 0),
        }
        said = "size of a hypothetical 16-bit file, no such file was written"
        own: dict[str, Any] = {
            **parts,
            "bytes_file": 2 * params,
            "bytes_other": 2 * params - sum(parts.values()),
            "bits_nominal": 16.0,
            "bits_nominal_unweighted": 16.0,
            "track": "fp16",
            "simulated": True,
        }
    else:
        said = f"released file ({asset['released_format']})"
        own = {
            "bytes_file": int(asset["released_bytes"]),
            "bytes_linear": int(asset["linears_released_bytes"]),
            "bytes_embedding": None,
            "bytes_head": None,
            "bytes_other": None,
            "bits_nominal": None,
            "bits_nominal_unweighted": None,
            "track": str(asset["released_format"]),
            "simulated": True,
        }
    bpw = {"bpw_linear": 8 * own["bytes_linear"] / linear_params, "bpw_file": 8 * own["bytes_file"] / params}
    none = {"wall_s": None, "peak_rss_bytes": None, "peak_gpu_bytes": None}
    return {**key, **own, **bpw, **none, "note": "; ".join(filter(None, (said, note))), "tied_embeddings": tied}


def _numel(reader: CheckpointReader, name: str) -> int:
    count = 1
    for size in reader.shape(name):
        count *= size
    return count
