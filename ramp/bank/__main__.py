"""Build the bank of a model: ``python -m ramp.bank``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.calibration.text_options import add_text_arguments
from ramp.core import cli
from ramp.core.output_path import OutputFolder
from ramp.quantizers.widths import parse_width

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.bank.build import build_bank
    from ramp.calibration.folding import load_fold
    from ramp.calibration.windows import calibration_windows
    from ramp.models.device import pick_device
    from ramp.models.folder import ModelFolder
    from ramp.quantizers.site import needs_hessian


def main(argv: Sequence[str] | None = None) -> int:
    """Build one model's bank."""
    parser = cli.parser("Quantize every linear at every width once, and keep the results packed.")
    add_text_arguments(parser)
    parser.add_argument("--fold", required=True, help="fold file of ramp.calibration.fold_search")
    parser.add_argument("--quantizer", choices=("rtn", "gptq"), default="gptq", help="how linears are quantized")
    parser.add_argument(
        "--widths",
        type=cli.worded(parse_width),
        nargs="+",
        default=[3, 4, 5, 6],
        help="the menu: bits, or bits and groups (3g32)",
    )
    parser.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder to write")
    args = parser.parse_args(argv)
    fold = load_fold(args.fold, ModelFolder(args.model_dir).config)
    windows = None
    if needs_hessian(args.quantizer):
        windows = calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length, draw=args.draw)
    build_bank(
        args.model_dir,
        windows,
        args.out,
        fold=fold,
        fold_name=Path(args.fold).stem,
        quantizer=args.quantizer,
        widths=args.widths,
        group_size=args.group_size,
        device=pick_device(args.device),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
