"""Quantize one row of a study: ``python -m ramp.rows.quantize``."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.files import write_json
from ramp.models.device import pick_device
from ramp.models.folder import ModelFolder
from ramp.quantizers.sizes import bits_nominal
from ramp.rows.build import build_row
from ramp.rows.checkpoint import TRACKS
from ramp.rows.float_rows import SPECIAL, special_meta
from ramp.rows.sequential import QuantizationError

log = logging.getLogger("ramp.rows.quantize")


def main(argv: Sequence[str] | None = None) -> int:
    """Write one quantized row, or the sizes of the float model or the released file."""
    parser = cli.parser("Quantize a model sequentially, with quantized predecessors, and pack it.")
    parser.add_argument("--model-dir", required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--text", help="calibration documents, JSON lines")
    parser.add_argument("--tokens", type=int, default=8192, help="calibration tokens in all")
    parser.add_argument("--length", type=int, default=512, help="tokens per window")
    parser.add_argument("--fold", help="fold file of ramp.calibration.fold_search")
    parser.add_argument("--method-file", required=True, help="file that registers the method; or: float, released")
    widths = parser.add_mutually_exclusive_group()
    widths.add_argument("--allocation", help="allocation file of a mixed row")
    widths.add_argument("--bits", type=int, help="width of a uniform row")
    parser.add_argument("--params", default="{}", help="JSON object: parameters of a uniform method")
    parser.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    parser.add_argument("--track", choices=TRACKS, default="q8_0", help="how embedding and head are stored")
    parser.add_argument("--seed", type=int, default=0, help="seed in the row's key; quantizing draws nothing")
    parser.add_argument("--study", default="", help="name of the study")
    parser.add_argument("--out", required=True, help="folder to write")
    args = parser.parse_args(argv)
    if args.method_file in SPECIAL:
        write_json(Path(args.out) / "meta.json", special_meta(args.method_file, args.model_dir, args.study, args.seed))
        return 0
    for option in ("text", "fold"):
        if getattr(args, option) is None:
            raise QuantizationError(f"--{option} is needed for every method but {' and '.join(SPECIAL)}")
    try:
        params = json.loads(args.params)
    except json.JSONDecodeError as error:
        raise QuantizationError(f"--params is not a JSON object ({error})") from None
    cli.set_threads(args.threads)
    meta = build_row(
        args.model_dir, args.out, method_file=args.method_file, fold_file=args.fold, text=args.text,
        tokens=args.tokens, length=args.length, group_size=args.group_size, track=args.track, study=args.study,
        seed=args.seed, device=pick_device(args.device), bits=args.bits, allocation_file=args.allocation, params=params,
    )  # fmt: skip
    weighted, _ = bits_nominal(meta["bits"], ModelFolder(args.model_dir).linears)
    log.info(
        "%s: %.3f bits, %d bytes of linears, %d in all", args.out, weighted, meta["bytes_linear"], meta["bytes_file"]
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
