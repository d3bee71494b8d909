"""Quantize a model sequentially and pack it as one row; --method-file float or released: the row's sizes alone."""

from __future__ import annotations

from collections.abc import Sequence

from ramp.calibration.text_options import add_draw
from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.core.cli import log

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.methods.names import UNQUANTIZED
    from ramp.models.device import pick_device
    from ramp.models.folder import ModelFolder
    from ramp.quantizers.sizes import bits_nominal
    from ramp.rows.build import build_row
    from ramp.rows.float_rows import special_meta
    from ramp.rows.sequential_quantization import QuantizationError


def main(argv: Sequence[str] | None = None) -> int:
    """Write one quantized row, or the sizes of the float model or the released file."""
    parser = cli.parser(__doc__, "--model-dir --method-file --params --group-size --track --seed --study --out/")
    parser.add_argument("--text", help="calibration documents, JSON lines")
    parser.add_argument("--tokens", type=int, default=8192, help="calibration tokens in all")
    parser.add_argument("--length", type=int, default=512, help="tokens per window")
    add_draw(parser)
    parser.add_argument("--leak", default="", help="where its text is no role of the study: levels, CALIBRATION-SEARCH")
    parser.add_argument("--fold", help="fold file of ramp.calibration.fold_search")
    widths = parser.add_mutually_exclusive_group()
    widths.add_argument("--allocation", help="allocation file of a mixed row")
    widths.add_argument("--bits", type=int, help="width of a uniform row")
    args = parser.parse_args(argv)
    if args.method_file in UNQUANTIZED:
        write_json(
            args.out / "meta.json",
            special_meta(args.method_file, args.model_dir, args.study, args.seed),
            sealed=True,
        )
        return 0
    for option in ("text", "fold"):
        if getattr(args, option) is None:
            raise QuantizationError(f"--{option} is needed for every method but {' and '.join(UNQUANTIZED)}")
    meta = build_row(
        args.model_dir, args.out, method_file=args.method_file, fold_file=args.fold, text=args.text,
        tokens=args.tokens, length=args.length, draw=args.draw, leak=args.leak, group_size=args.group_size,
        track=args.track, study=args.study, seed=args.seed, device=pick_device(args.device), bits=args.bits,
        allocation_file=args.allocation, params=args.params,
    )  # fmt: skip
    weighted, _ = bits_nominal(meta["bits"], ModelFolder(args.model_dir).linears)
    log.info(
        "%s: %.3f bits, %d bytes of linears, %d in all", args.out, weighted, meta["bytes_linear"], meta["bytes_file"]
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
