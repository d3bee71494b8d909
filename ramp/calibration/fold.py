"""Search the scales of a fold: ``python -m ramp.calibration.fold``."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from ramp.calibration.block import SITE_LEADERS
from ramp.calibration.folding import KINDS, FoldSearch, check_fold, search_folds
from ramp.calibration.windows import add_text_arguments, calibration_windows
from ramp.core import cli
from ramp.core.tensor_file import save_tensors
from ramp.models.device import pick_device
from ramp.models.folder import ModelFolder

log = logging.getLogger("ramp.calibration.folding")


def main(argv: Sequence[str] | None = None) -> int:
    """Search the scales of one kind of fold and write them."""
    parser = cli.parser("Scale Folding: per-channel scales of every site, searched once and shared by all widths.")
    add_text_arguments(parser)
    parser.add_argument("--kind", required=True, choices=list(KINDS), help="how scales are found")
    parser.add_argument("--bits", type=int, nargs="+", default=[3, 4], help="widths whose output errors AWQ sums")
    parser.add_argument("--group-size", type=int, default=128, help="group size of the grid that AWQ rounds to")
    parser.add_argument("--sites", nargs="+", choices=list(SITE_LEADERS), help="fold these sites; default: the kind's")
    parser.add_argument("--alpha", type=float, default=0.5, help="SmoothQuant's migration strength")
    parser.add_argument("--powers-of-two", action="store_true", help="round scales so that folding norms is bit-exact")
    parser.add_argument("--max-rows", type=int, default=0, help="AWQ: rows that pick the finalists; 0: all")
    parser.add_argument("--sym", action="store_true", help="AWQ: search on symmetric grids")
    parser.add_argument("--duo", action="store_true", help="AWQ: candidates that weigh the weights' size too")
    parser.add_argument("--out", required=True, help="safetensors file to write")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)
    search = FoldSearch(
        kind=args.kind, bits=args.bits, group_size=args.group_size, sites=args.sites, alpha=args.alpha,
        powers_of_two=args.powers_of_two, max_rows=args.max_rows or None, sym=args.sym, duo=args.duo,
    )  # fmt: skip
    about: dict[str, Any] = {"kind": args.kind, "powers_of_two": args.powers_of_two}
    if args.kind == "none":
        check_fold({}, ModelFolder(args.model_dir).config)
        save_tensors(args.out, {}, about)
        return 0
    windows = calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length)
    fold, errors = search_folds(args.model_dir, windows, search, device=pick_device(args.device))
    about |= {"bits": args.bits, "group_size": args.group_size, "tokens": windows.numel(), "errors": errors}
    if args.kind == "smoothquant":
        about["alpha"] = args.alpha
    else:
        about |= {"sym": args.sym, "duo": args.duo}
    if errors:
        ratios = [math.log(max(after, 1e-30) / max(before, 1e-30)) for before, after in errors.values()]
        log.info("output error after / before folding, geometric mean: %.3f", math.exp(sum(ratios) / len(ratios)))
    save_tensors(args.out, fold, about)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
