"""A GGUF file as a row of the study: its ``meta.json``, with its own bytes, on the ggml grid."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramp.core.atomic_files import atomic_path, require_file, sha256_file, write_json
from ramp.core.errors import RampError
from ramp.export.plan import GgufPlan
from ramp.gguf_format.names import GgufError
from ramp.gguf_format.reader import GgufFile
from ramp.models.asset_file import read_model_asset
from ramp.models.folder import ModelFolder
from ramp.rows.meta_file import gguf_of

DISTORTED_TYPES = {"Q4_1": frozenset({"Q4_K", "Q5_K", "Q4_1", "Q5_1"})}
"""Types whose float-minimum blocks partly reproduce the grid of a checkpoint that was itself released in the key's
type, so that their error is smaller or larger than on a float model (Q5_K_M in docs/results/exported-files.md)."""

OUR_WIDTHS = "widths allocated on the affine grid; bytes are the ggml types' own"


def row_note(plan: GgufPlan, released_format: str | None, lead: str = OUR_WIDTHS) -> str:
    """Return the row's note: whose types, fallbacks, and the types that the released grid distorts."""
    notes = [lead, *plan.notes]
    used = {tensor.type for tensor in plan.tensors if tensor.kind == "linear"}
    if distorted := sorted(used & DISTORTED_TYPES.get((released_format or "").upper(), frozenset())):
        notes.append(f"{', '.join(distorted)} distorted: the checkpoint was released in {released_format}")
    return "; ".join(notes)


def payload_bits(type_name: str) -> int:
    """Return the bits of a type's codes, scales not counted: Q4_K 4, Q5_1 5, IQ4_NL 4, F16 16."""
    return int("".join(re.findall(r"\d+", type_name)[:1]))


def require_planned(gguf: Path, plan: GgufPlan) -> None:
    """Raise ``GgufError`` where a tensor of a file is not the one whose sha256 stands in its plan."""
    file = GgufFile(require_file(gguf, "GGUF file"))
    planned, found = {tensor.name: tensor.sha256 for tensor in plan.tensors}, set(file.names())
    for name in sorted(planned.keys() | found):
        if name not in found or planned.get(name) != hashlib.sha256(file.raw(name).data).hexdigest():
            raise GgufError(f"{gguf}: {name} is not what its plan says: delete the file and export it again")


def row_meta(
    gguf: str | Path,
    plan: GgufPlan,
    model_dir: str | Path,
    row: Mapping[str, Any],
    study: str,
    *,
    lead: str = OUR_WIDTHS,
) -> dict[str, Any]:
    """Return the ``meta.json`` of a GGUF file but for its path ``gguf``.

    row: ``method``, ``budget_bits``, ``group_size``, ``seed``. Raises ``GgufError`` where the file has another size
    than in its plan.
    """
    gguf, sizes = require_file(gguf, "GGUF file"), plan.sizes
    if gguf.stat().st_size != sizes["bytes_file"]:
        raise GgufError(f"{gguf} has {gguf.stat().st_size} bytes, its plan says {sizes['bytes_file']}: export it again")
    linears = ModelFolder(model_dir).linears
    found = {tensor.source: tensor.type for tensor in plan.tensors}
    types = {linear.name: found[f"{linear.name}.weight"] for linear in linears}
    bits = [payload_bits(types[linear.name]) for linear in linears]
    weights = [linear.params for linear in linears]
    asset = read_model_asset(Path(model_dir))
    return {
        "study": study,
        "model": plan.model,
        "method": row["method"],
        "grid": "ggml",
        "stage": "final",
        "budget_bits": row["budget_bits"],
        "group_size": row["group_size"],
        "fold": plan.fold,
        "seed": row["seed"],
        "track": plan.track,
        "tied_embeddings": sizes["bytes_head"] == 0,
        "types": types,
        **sizes,
        "bytes_native": sizes["bytes_file"],
        "bits_nominal": sum(b * n for b, n in zip(bits, weights, strict=True)) / sum(weights),
        "bits_nominal_unweighted": sum(bits) / len(bits),
        "bpw_linear": 8 * sizes["bytes_linear"] / sum(weights),
        "bpw_file": 8 * sizes["bytes_file"] / sum(math.prod(tensor.shape) for tensor in plan.tensors),
        "sha256": sha256_file(gguf),
        "simulated": False,
        "note": row_note(plan, asset.released_format if asset else None, lead),
        "wall_s": plan.wall_s,
        "peak_rss_bytes": plan.peak_rss_bytes,
        "peak_gpu_bytes": 0,
    }


def write_row(
    gguf: str | Path, plan: GgufPlan, model_dir: str | Path, row: Mapping[str, Any], study: str, out: str | Path
) -> dict[str, Any]:
    """Write ``out/meta.json``, by which a GGUF file becomes a row that evaluation reads; return its content.

    The file stays where it is; ``gguf`` in the meta is its path relative to the row's folder.
    """
    gguf, out = Path(gguf), Path(out)
    require_planned(gguf, plan)
    meta = row_meta(gguf, plan, model_dir, row, study)
    meta["gguf"] = Path(os.path.relpath(gguf.absolute(), out.absolute())).as_posix()
    try:
        same = os.path.realpath(gguf_of(out, meta["gguf"])) == os.path.realpath(gguf)
    except RampError:
        same = False
    if not same:
        raise GgufError(f"{gguf} is not below the results folder of the row {out}: write it there (R/halo/MODEL)")
    with atomic_path(out) as partial:
        write_json(partial / "meta.json", meta, sealed=True)
    return meta
