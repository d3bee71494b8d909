"""Activation statistics of every site of the unfolded float model: ``python -m ramp.calibration``.

The file: ``{site}/absmax|absmean|sqmean`` float32 [d_in] in one safetensors file; metadata key ``ramp`` is JSON with
``tokens``, ``windows``, ``length`` and ``text_sha256``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.calibration.text_options import add_text_arguments
from ramp.core import cli
from ramp.core.atomic_files import sha256_file
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import torch
    from torch import Tensor

    from ramp.calibration.block import BlockVisit, Stats
    from ramp.calibration.stream import stream
    from ramp.calibration.windows import calibration_windows
    from ramp.core.tensor_file import save_tensors
    from ramp.models.device import pick_device


def measure(model_dir: str | Path, windows: Tensor, *, device: torch.device | str) -> dict[str, Stats]:
    """Return statistics of every site of the unfolded float model: site name -> Stats."""
    found: dict[str, Stats] = {}

    def visit(block: BlockVisit) -> None:
        found.update({block.site_name(kind): stats for kind, stats in block.activations().items()})

    stream(model_dir, windows, visit, device=device)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Write the per-channel statistics of every site."""
    parser = cli.parser("Per-channel activation statistics of every linear's input, streamed block by block.")
    add_text_arguments(parser)
    parser.add_argument("--out", type=OutputFile, required=True, help="safetensors file to write")
    args = parser.parse_args(argv)
    windows = calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length, draw=args.draw)
    found = measure(args.model_dir, windows, device=pick_device(args.device))
    tensors = {f"{site}/{key}": getattr(stats, key) for site, stats in found.items() for key in Stats.__annotations__}
    count, length = windows.shape
    about = {"tokens": count * length, "windows": count, "length": length, "text_sha256": sha256_file(args.text)}
    save_tensors(args.out, tensors, about)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
