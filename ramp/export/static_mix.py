"""llama.cpp's static mixes as rows: its quantizer on our float file, its choice of types, our evaluation.

    python -m ramp.export.static_mix --model-dir D --gguf R/halo/M/float-b16-s0.gguf --method-file
    baselines/q4_k_m.py \\
        --calibration R/calibration/M.safetensors --track q8_0 --seed 0 --study S --out R/quantized/M/q4_k_m-b4-s0-ggml

The row's folder holds ``model.gguf``, ``imatrix.gguf`` (with an importance matrix: the file that llama-quantize takes
as ``--imatrix``) and ``meta.json``. The types are read from the file that llama.cpp wrote. Embedding and head get the
study's track, as in every row. Where llama.cpp is missing or refuses, ``meta.json`` holds the reason (``failed``), the
row has no scores, and the study continues.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core import cli
from ramp.core.atomic_files import atomic_path, write_json
from ramp.core.cli import log
from ramp.core.errors import RampError

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.core.tensors import open_tensors
    from ramp.export.llamacpp import LlamaCppError
    from ramp.export.llamacpp_quantize import missing, quantize_apart, quantizer_version, write_importance
    from ramp.export.plan import TABLES, TRACK_TYPES, GgufPlan, PlannedTensor, read_plan, sizes_of
    from ramp.export.row import require_planned, row_meta
    from ramp.export.write import read_importance
    from ramp.gguf_format.names import gguf_tensors
    from ramp.gguf_format.reader import GgufFile
    from ramp.methods.kinds import Mix, reason_not_to_run
    from ramp.methods.loader import load_method
    from ramp.models.architecture import architecture
    from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    from transformers import PretrainedConfig

WEIGHTS, IMPORTANCE = "model.gguf", "imatrix.gguf"
K_BLOCK = 256
"""Weights in a block of a K-quant: other rows fall back to types of 32-blocks."""


class MixError(RampError):
    """A method that is no static mix, or calibration statistics of another model."""


def tensors_of(path: Path, config: PretrainedConfig) -> list[PlannedTensor]:
    """Return every tensor of a GGUF file with its own type, shape and bytes."""
    file = GgufFile(path)
    return [
        PlannedTensor(x.name, x.source, x.kind, file.type(x.name), file.shape(x.name), file.raw(x.name).nbytes)
        for x in gguf_tensors(config)
    ]


def type_notes(tensors: Sequence[PlannedTensor], track: str) -> list[str]:
    """Return notes on the linears' types, on row lengths without K-quants and on tables that are not of the track."""
    linears = [tensor for tensor in tensors if tensor.kind == "linear"]
    notes = ["llama.cpp's own types: " + _counted(linears)]
    for columns in sorted({tensor.shape[1] for tensor in linears if tensor.shape[1] % K_BLOCK}):
        short = [tensor for tensor in linears if tensor.shape[1] == columns]
        notes.append(f"no K-quants in rows of {columns}, not a multiple of {K_BLOCK}: {_counted(short)}")
    for table in tensors:
        if table.kind in TABLES and table.type != TRACK_TYPES[track]:
            notes.append(f"{table.kind} stored as {table.type}")
    return notes


def _counted(tensors: Sequence[PlannedTensor]) -> str:
    return ", ".join(f"{kind} x {count}" for kind, count in sorted(Counter(x.type for x in tensors).items()))


@dataclass(frozen=True)
class MixRow:
    """A row of a static mix: from which files, and its place in the study."""

    model_dir: Path
    gguf: Path  # the model as a float32 GGUF file
    plan: Path  # of that file
    calibration: Path | None  # statistics, for the importance matrix
    track: str
    study: str
    seed: int  # of the row's key; nothing is drawn
    threads: int = 1
    placeholder: bool = False  # an empty file of weights also where there is no row


@dataclass(frozen=True)
class AboutStatistics:
    """Fields that are read of the metadata of calibration statistics."""

    tokens: int
    length: int  # tokens per window


def make_row(method_file: str | Path, row: MixRow, out: str | Path) -> dict[str, Any]:
    """Write the folder of one static mix; return its ``meta.json``, with the reason if the row cannot be made."""
    method = load_method(method_file)
    if not isinstance(method, Mix):
        raise MixError(f"{method_file} registers a {type(method).__name__}, not a static mix: pass the file of a Mix")
    key = {"method": method.name, "budget_bits": float(method.bits), "group_size": 0, "seed": row.seed}
    with atomic_path(out) as folder:
        folder.mkdir()
        try:
            if reason := reason_not_to_run(method) or missing():
                raise LlamaCppError(reason)
            meta = _quantized(method, row, key, folder)
        except LlamaCppError as error:
            log.warning("%s: no row: %s", method.name, error)
            meta = failed_meta(row, key, str(error))
            if row.placeholder:
                (folder / WEIGHTS).write_bytes(b"")
        write_json(folder / "meta.json", meta, sealed=True)
    return meta


def _quantized(method: Mix, row: MixRow, key: dict[str, Any], folder: Path) -> dict[str, Any]:
    started, config = time.monotonic(), ModelFolder(row.model_dir).config
    imatrix = folder / IMPORTANCE if method.importance else None
    if imatrix:
        if row.calibration is None:
            raise MixError(f"method '{method.name}' needs calibration statistics: pass --calibration")
        importance = read_importance(row.calibration, {}, config)
        again = "run ramp.calibration again"
        with open_tensors(row.calibration, "calibration statistics", framework="np", again=again) as statistics:
            about = statistics.about_as(AboutStatistics)
        write_importance(imatrix, importance, tokens=about.tokens, length=about.length)
    require_planned(row.gguf, read_plan(row.plan))
    path, table_type = folder / WEIGHTS, TRACK_TYPES[row.track]
    quantize_apart(row.gguf, path, method.file_type, table_type=table_type, imatrix=imatrix, threads=row.threads)
    tensors = tensors_of(path, config)
    plan = GgufPlan(
        gguf=path.name,
        kind="mix",
        model=row.model_dir.name,
        architecture=architecture(config).gguf_arch,
        track=row.track,
        fold="none",
        tensors=tensors,
        sizes=sizes_of(tensors, path.stat().st_size),
        notes=type_notes(tensors, row.track),
        wall_s=round(time.monotonic() - started, 3),
    )
    lead = f"static mix {method.file_type}" + (" with an importance matrix" if method.importance else "")
    meta = row_meta(path, plan, row.model_dir, key, row.study, lead=lead)
    return {**meta, "gguf": WEIGHTS, "quantizer": quantizer_version()}


def failed_meta(row: MixRow, key: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return the ``meta.json`` of a row that could not be made: its key and the reason, no sizes."""
    where = {"study": row.study, "model": row.model_dir.name, "grid": "ggml", "stage": "final", "fold": "none"}
    return {**where, **key, "track": row.track, "simulated": False, "failed": reason, "note": f"not run: {reason}"}


def main(argv: Sequence[str] | None = None) -> int:
    """Make one row of a static mix."""
    parser = cli.parser("Make a row of a static mix.", "--model-dir --method-file --track --seed --study --out/")
    parser.add_argument("--gguf", type=Path, required=True, help="float32 GGUF file, by ramp.export.halo float")
    parser.add_argument("--plan", type=Path, required=True, help="plan of that file")
    parser.add_argument("--calibration", type=Path, default=None, help="statistics, for the importance matrix")
    parser.add_argument("--placeholder", action="store_true", help="a file of weights also for a row that has none")
    args = parser.parse_args(argv)
    row = MixRow(
        args.model_dir, args.gguf, args.plan, args.calibration, args.track, args.study, args.seed, args.threads,
        args.placeholder,
    )  # fmt: skip
    meta = make_row(args.method_file, row, args.out)
    log.info("%s: %s bytes; %s", args.out, meta.get("bytes_file"), meta["note"])
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
