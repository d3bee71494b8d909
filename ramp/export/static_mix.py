"""llama.cpp's static mixes as rows: its own quantizer on our float file, its own choice of types, our evaluation.

    python -m ramp.export.static_mix --model-dir D --gguf R/halo/M/float-b16-s0.gguf --method-file
    baselines/q4_k_m.py \\
        --calibration R/calibration/M.safetensors --track q8_0 --seed 0 --study S --out R/quantized/M/q4_k_m-b4-s0-ggml

The row's folder holds ``model.gguf``, ``imatrix.gguf`` (with an importance matrix: the file that llama-quantize takes
as ``--imatrix``) and ``meta.json``. The types are read from the file that llama.cpp wrote; nothing is assumed of its
rules. Embedding and head get the study's track, as in every row. Where llama.cpp is missing or refuses, ``meta.json``
says so (``failed``) and the row has no scores: the rest of the study goes on.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.errors import RampError
from ramp.core.files import atomic_path, require_file, write_json
from ramp.export.llamacpp import LlamaCppError
from ramp.export.llamacpp_quantize import missing, quantize_apart, quantizer_version, write_importance
from ramp.export.row import row_meta
from ramp.export.write_gguf import TRACK_TYPES, PlannedTensor, read_importance, sizes_of
from ramp.gguf.names import GgufTensor, gguf_tensors
from ramp.gguf.reader import GgufFile
from ramp.methods.kinds import Mix, reason_not_to_run
from ramp.methods.loader import load_method
from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    import numpy as np
    from transformers import PretrainedConfig

log = logging.getLogger("ramp.export.static_mix")

WEIGHTS, IMPORTANCE = "model.gguf", "imatrix.gguf"
K_BLOCK = 256
"""Weights in a block of a K-quant: other rows fall back to types of 32-blocks."""


class MixError(RampError):
    """A method that is no static mix, or calibration statistics of another model."""


def tensors_of(path: Path, config: PretrainedConfig) -> list[PlannedTensor]:
    """Every tensor of a GGUF file as it was written: types, shapes and bytes are the file's own."""
    file = GgufFile(path)

    def written(x: GgufTensor) -> PlannedTensor:
        name = x.name
        return PlannedTensor(name, x.source, x.kind, file.type(name), file.shape(name), file.raw(name).nbytes, None, "")

    return [written(tensor) for tensor in gguf_tensors(config)]


def type_notes(tensors: Sequence[PlannedTensor], track: str) -> list[str]:
    """The types of the linears with their numbers, row lengths without K-quants, and tables off the track."""
    linears = [tensor for tensor in tensors if tensor.kind == "linear"]
    notes = ["llama.cpp's own types: " + _counted(linears)]
    for columns in sorted({tensor.shape[1] for tensor in linears if tensor.shape[1] % K_BLOCK}):
        short = [tensor for tensor in linears if tensor.shape[1] == columns]
        notes.append(f"no K-quants in rows of {columns}, not a multiple of {K_BLOCK}: {_counted(short)}")
    for table in tensors:
        if table.kind in ("embedding", "head") and table.type != TRACK_TYPES[track]:
            notes.append(f"{table.kind} stored as {table.type}")
    return notes


def _counted(tensors: Sequence[PlannedTensor]) -> str:
    return ", ".join(f"{kind} x {count}" for kind, count in sorted(Counter(x.type for x in tensors).items()))


def importance_of(calibration: str | Path, config: PretrainedConfig) -> tuple[dict[str, np.ndarray], int, int]:
    """Mean square of every input channel by GGUF tensor, float32 [d_in]; calibration tokens; tokens per window."""
    from safetensors import safe_open

    sites = read_importance(calibration, {})
    with safe_open(str(calibration), framework="np") as handle:
        about = json.loads((handle.metadata() or {}).get("ramp", "{}"))
    found = {}
    for tensor in gguf_tensors(config):
        if tensor.linear is None:
            continue
        values = sites.get(tensor.linear.site)
        if values is None or values.shape != (tensor.linear.d_in,):
            what = "nothing" if values is None else f"{values.shape[0]} channels"
            raise MixError(f"{calibration} holds {what} of {tensor.linear.site}: it is of another model")
        found[tensor.name] = values
    return found, int(about.get("tokens", 1)), int(about.get("length", 1))


def make_row(
    model_dir: str | Path,
    gguf: str | Path,
    out: str | Path,
    *,
    method_file: str | Path,
    calibration: str | Path | None,
    track: str,
    study: str,
    seed: int,
    threads: int = 1,
) -> dict[str, Any]:
    """Write the folder of one static mix; return its ``meta.json``. A row that cannot be made says why in it."""
    method = load_method(method_file)
    if not isinstance(method, Mix):
        raise MixError(f"{method_file} registers a {type(method).__name__}, not a static mix: pass the file of a Mix")
    row = {"method": method.name, "budget_bits": float(method.bits), "group_size": 0, "seed": seed}
    with atomic_path(out) as folder:
        folder.mkdir()
        try:
            if reason := reason_not_to_run(method) or missing():
                raise LlamaCppError(reason)
            meta = _quantized(method, Path(model_dir), gguf, folder, calibration, track, row, study, threads)
        except LlamaCppError as error:
            log.warning("%s: no row: %s", method.name, error)
            meta = failed_meta(Path(model_dir).name, row, study, track, str(error))
        write_json(folder / "meta.json", meta)
    return meta


def _quantized(
    method: Mix,
    model_dir: Path,
    gguf: str | Path,
    folder: Path,
    calibration: str | Path | None,
    track: str,
    row: dict[str, Any],
    study: str,
    threads: int,
) -> dict[str, Any]:
    from ramp.core.memory import peak_rss_bytes

    started, config = time.monotonic(), ModelFolder(model_dir).config
    imatrix = folder / IMPORTANCE if method.importance else None
    if imatrix:
        if calibration is None:
            raise MixError(f"method '{method.name}' needs calibration statistics: pass --calibration")
        values, tokens, length = importance_of(require_file(calibration, "calibration statistics"), config)
        write_importance(imatrix, values, tokens=tokens, length=length)
    path = folder / WEIGHTS
    types = TRACK_TYPES[track]
    quantize_apart(gguf, path, method.file_type, table_type=types, imatrix=imatrix, threads=threads)
    tensors = tensors_of(path, config)
    plan = {
        "model": model_dir.name, "track": track, "fold": "none", "notes": type_notes(tensors, track),
        "tensors": [asdict(tensor) for tensor in tensors], "sizes": sizes_of(tensors, path.stat().st_size),
        "wall_s": round(time.monotonic() - started, 3), "peak_rss_bytes": peak_rss_bytes(),
    }  # fmt: skip
    lead = f"static mix {method.file_type}" + (" with an importance matrix" if method.importance else "")
    meta = row_meta(path, plan, model_dir, row, study, lead=lead)
    return {**meta, "gguf": WEIGHTS, "quantizer": quantizer_version()}


def failed_meta(model: str, row: dict[str, Any], study: str, track: str, reason: str) -> dict[str, Any]:
    """``meta.json`` of a row that could not be made here: its key and the reason, no sizes."""
    key = {"study": study, "model": model, "grid": "ggml", "stage": "final", "fold": "none", **row}
    return {**key, "track": track, "simulated": False, "failed": reason, "note": f"not run: {reason}"}


def main(argv: Sequence[str] | None = None) -> int:
    """Make one row of a static mix."""
    parser = cli.parser("Quantize a float GGUF file to a static mix of llama.cpp and write it as a row.")
    parser.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    parser.add_argument(
        "--gguf", type=Path, required=True, help="the model as a float32 GGUF file (ramp.export.halo float)"
    )
    parser.add_argument("--method-file", type=Path, required=True, help="file that registers the mix")
    parser.add_argument("--calibration", type=Path, default=None, help="statistics, for the importance matrix")
    parser.add_argument("--track", default="q8_0", choices=("q8_0", "fp16"), help="how embedding and head are stored")
    parser.add_argument("--seed", type=int, default=0, help="seed of the row's key; nothing is drawn here")
    parser.add_argument("--study", default="", help="name of the study")
    parser.add_argument("--out", type=Path, required=True, help="folder of the row; an old one is replaced")
    args = parser.parse_args(argv)
    meta = make_row(
        args.model_dir, args.gguf, args.out, method_file=args.method_file, calibration=args.calibration,
        track=args.track, study=args.study, seed=args.seed, threads=args.threads,
    )  # fmt: skip
    log.info("%s: %s bytes; %s", args.out, meta.get("bytes_file"), meta["note"])
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
