"""Second moments of every site, for ``benchmarks.stability``: what GPTQ reads of the activations.

    python -m benchmarks.second_moments --model-dir M --text calibration.jsonl --fold F --out moments.safetensors

streams the folded model as ``ramp.bank`` does, and keeps each site's Hessian, float32 [d_in, d_in]. No stage leaves a
file of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.calibration.text_options import add_text_arguments
from ramp.core import cli
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from torch import Tensor

    from ramp.calibration.block import BlockVisit
    from ramp.calibration.folding import load_fold
    from ramp.calibration.stream import stream
    from ramp.calibration.windows import calibration_windows
    from ramp.core.tensor_file import save_tensors
    from ramp.models.device import pick_device
    from ramp.models.folder import ModelFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Second moments of every linear's input, streamed block by block.")
    add_text_arguments(parser)
    parser.add_argument("--fold", type=Path, required=True, help="fold file of ramp.calibration.fold_search")
    parser.add_argument("--out", type=OutputFile, required=True, help="safetensors file to write")
    args = parser.parse_args(argv)
    windows = calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length, draw=args.draw)
    found: dict[str, Tensor] = {}

    def visit(block: BlockVisit) -> None:
        found.update({block.site_name(kind): hessian for kind, hessian in block.hessians().items()})

    fold = load_fold(args.fold, ModelFolder(args.model_dir).config)
    stream(args.model_dir, windows, visit, device=pick_device(args.device), fold=fold)
    save_tensors(args.out, found, {})
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
