"""A finished row in another storage track: embedding and head stored anew, linears taken over bit by bit.

    python -m ramp.rows.storage_track --row-dir R/quantized/M/ramp-b4-s0 --model-dir R/models/M --track fp16 \\
        --out R/quantized/M/ramp-b4-s0-fp16

Nothing is quantized again: codes, scales, zeros, folded norms and biases are those of the row, embedding and head come
from the float checkpoint (no fold touches them). The new row's ``stage`` is ``final_{track}``, so that comparisons of
final rows never mix tracks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.cli import TRACKS, log

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.models.folder import ModelFolder
    from ramp.quantizers.store import PARTS
    from ramp.rows.checkpoint import IN_FP16, CheckpointError, open_packed, packed_linears, save_packed
    from ramp.rows.meta_file import read_meta_of

STAGE = "final"
"""The stage of rows that can be stored again; theirs is this with the track behind it."""

MEASURED = ("wall_s", "peak_rss_bytes", "peak_gpu_bytes")
"""Cost of the first row's quantization, which is not spent again."""


def store_again(row_dir: str | Path, model_dir: str | Path, track: str, out: str | Path) -> dict[str, Any]:
    """Write a row's folder with embedding and head in ``track``; return its ``meta.json``.

    Raises ``CheckpointError`` for a row that is no packed final row, is damaged, or is in that track already.
    """
    started, row_dir = time.monotonic(), Path(row_dir)
    meta = read_meta_of(row_dir, Path(model_dir))
    if meta["stage"] != STAGE or meta["grid"] != "affine":
        raise CheckpointError(
            f"{row_dir} is a row of stage {meta['stage']} on grid {meta['grid']}: only final affine rows are stored in "
            "another track"
        )
    if track == meta["track"]:
        raise CheckpointError(f"{row_dir} is in track '{track}' already: choose another")
    tensors, header = open_packed(row_dir, meta)
    model = ModelFolder(model_dir)
    arch = model.architecture
    weights = {f"{arch.embed}.weight", f"{arch.head}.weight"}
    others = {name: model.reader.get(name) for name in model.outer if name in weights}
    tables = {f"{name}{ending}" for name in weights for ending in ("", ".q8_0")}
    parts = {f"{x.name}.{part}" for x in model.linears for part in PARTS}
    kept = set(tensors) - tables - parts
    try:
        others |= {name: tensors[name] for name in sorted(kept)}
        about = {**meta, **dict.fromkeys(MEASURED), "stage": f"{STAGE}_{track}", "note": _own_note(meta)}
        about["wall_s"] = round(time.monotonic() - started, 3)
        linears = packed_linears(tensors, header)
        return save_packed(out, model_dir=model_dir, quantized=linears, others=others, track=track, meta=about)
    except KeyError as error:
        raise CheckpointError(f"{row_dir} lacks a packed linear ({error}): quantize the row again") from None


def _own_note(meta: Mapping[str, Any]) -> str:
    """Return the row's note without the remark on its old track's tables."""
    return "; ".join(part for part in str(meta.get("note", "")).split("; ") if part and IN_FP16 not in part)


def main(argv: Sequence[str] | None = None) -> int:
    """Store one row in another track."""
    parser = cli.parser("Store a final row, its embedding and head in another track.", "--row-dir --model-dir --out/")
    parser.add_argument("--track", choices=TRACKS, required=True, help="how embedding and head are stored")
    args = parser.parse_args(argv)
    meta = store_again(args.row_dir, args.model_dir, args.track, args.out)
    log.info("%s: %d bytes, %d of them linears", args.out, meta["bytes_file"], meta["bytes_linear"])
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
