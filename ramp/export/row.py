"""A GGUF file as a row of the study: its ``meta.json``, with its own bytes, on the ggml grid."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramp.core.files import atomic_path, read_json, require_file, write_json
from ramp.export.write_gguf import payload_bits
from ramp.gguf.names import HaloError
from ramp.models.folder import ModelFolder
from ramp.problem.allocation import AllocationRecord

DISTORTED_TYPES = {"Q4_1": frozenset({"Q4_K", "Q5_K", "Q4_1", "Q5_1"})}
"""Types whose float-minimum blocks partly reproduce the grid of a checkpoint that was itself released in the key's
type, so that their error is smaller or larger than on a float model (measured: prototype.md, "Grids")."""

OUR_WIDTHS = "widths allocated on the affine grid; bytes are the ggml types' own"


def row_note(plan: Mapping[str, Any], released_format: str | None, lead: str = OUR_WIDTHS) -> str:
    """What a reader of the row must know: whose types, fallbacks, and which types the released grid distorts."""
    notes = [lead, *plan["notes"]]
    used = {tensor["type"] for tensor in plan["tensors"] if tensor["kind"] == "linear"}
    distorted = sorted(used & DISTORTED_TYPES.get((released_format or "").upper(), frozenset()))
    if distorted:
        notes.append(f"{', '.join(distorted)} distorted: the checkpoint was released in {released_format}")
    return "; ".join(notes)


def row_meta(
    gguf: str | Path,
    plan: Mapping[str, Any],
    model_dir: str | Path,
    row: Mapping[str, Any],
    study: str,
    *,
    lead: str = OUR_WIDTHS,
) -> dict[str, Any]:
    """The ``meta.json`` of a GGUF file but for its path ``gguf``.

    row: ``method``, ``budget_bits``, ``group_size``, ``seed``. plan: as ``.plan.json`` holds it. Raises ``HaloError``
    where the file has another size than its plan says.
    """
    gguf = require_file(gguf, "GGUF file")
    if gguf.stat().st_size != plan["sizes"]["bytes_file"]:
        raise HaloError(
            f"{gguf} has {gguf.stat().st_size} bytes, its plan says {plan['sizes']['bytes_file']}: export it again"
        )
    linears = ModelFolder(model_dir).linears
    tensors = {tensor["source"]: tensor for tensor in plan["tensors"]}
    types = {linear.name: tensors[f"{linear.name}.weight"]["type"] for linear in linears}
    bits = [payload_bits(types[linear.name]) for linear in linears]
    weights = [linear.params for linear in linears]
    total = sum(math.prod(tensor["shape"]) for tensor in plan["tensors"])
    asset = Path(model_dir) / "asset.json"
    released = read_json(asset).get("released_format") if asset.is_file() else None
    sizes = plan["sizes"]
    return {
        "study": study,
        "model": plan["model"],
        "method": row["method"],
        "grid": "ggml",
        "stage": "final",
        "budget_bits": row["budget_bits"],
        "group_size": row["group_size"],
        "fold": plan["fold"],
        "seed": row["seed"],
        "track": plan["track"],
        "tied_embeddings": sizes["bytes_head"] == 0,
        "types": types,
        **sizes,
        "bytes_native": sizes["bytes_file"],
        "bits_nominal": sum(b * n for b, n in zip(bits, weights, strict=True)) / sum(weights),
        "bits_nominal_unweighted": sum(bits) / len(bits),
        "bpw_linear": 8 * sizes["bytes_linear"] / sum(weights),
        "bpw_file": 8 * sizes["bytes_file"] / total,
        "simulated": False,
        "note": row_note(plan, released, lead),
        "wall_s": plan["wall_s"],
        "peak_rss_bytes": plan["peak_rss_bytes"],
        "peak_gpu_bytes": 0,
    }


def write_row(
    gguf: str | Path,
    plan: Mapping[str, Any],
    model_dir: str | Path,
    allocation: AllocationRecord,
    study: str,
    out: str | Path,
) -> dict[str, Any]:
    """Write ``out/meta.json``, by which a GGUF file becomes a row that evaluation reads; return its content.

    The file itself stays where it is; ``gguf`` in the meta is its path relative to the row's folder.
    """
    gguf, out = Path(gguf), Path(out)
    meta = row_meta(gguf, plan, model_dir, allocation.model_dump(), study)
    meta["gguf"] = Path(os.path.relpath(gguf.resolve(), out.resolve())).as_posix()
    with atomic_path(out) as partial:
        write_json(partial / "meta.json", meta)
    return meta
