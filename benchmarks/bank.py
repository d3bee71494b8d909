"""Building a bank: layers a minute, and the bytes on disk against the sum of the packed bits.

    python -m benchmarks.bank --model-dir R/models/NAME --text R/texts/calibration.jsonl --out FILE.json

The bank holds every linear at every width of the menu, quantized once. Its speed is compared with what the same linears
cost one by one: a quantization of the whole model per width, with the Hessians collected anew each time. Its bytes are
compared with the packed bits themselves, codes, scales and zero-points, counted from the shapes alone. Built on the
processor unless ``--device`` names a GPU, whose speed is then one by the clock.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Piece, Sample, alternate, clock, command_line, median, parser, row, timed
from ramp.core import cli


def packed_bits_bytes(d_out: int, d_in: int, bits: int, group_size: int) -> float:
    """Return the codes, float16 scales and zero-points of one linear without any padding, in bytes."""
    groups = d_out * d_in // group_size
    return (bits * d_out * d_in + (16 + bits) * groups) / 8


def measure(args: argparse.Namespace) -> Piece:
    """Time the whole bank against one bank per width, by turns."""
    from ramp.bank.bank import INDEX, WEIGHTS, Bank
    from ramp.bank.build import build_bank
    from ramp.calibration.windows import calibration_windows
    from ramp.models.device import pick_device
    from ramp.models.folder import ModelFolder
    from ramp.quantizers.sizes import group_size_for

    windows = calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length)
    linears, device = ModelFolder(args.model_dir).linears, pick_device(args.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def build(name: str, widths: Sequence[int]) -> None:
            build_bank(
                args.model_dir, windows, folder / name, fold={}, fold_name="none", quantizer="gptq", widths=widths,
                group_size=args.group_size, device=device,
            )  # fmt: skip

        def singly() -> None:
            for bits in args.widths:
                build("single", [bits])

        whole, single = alternate(
            lambda: timed(lambda: build("bank", args.widths)), lambda: timed(singly), args.repeats
        )
        on_disk = sum((folder / "bank" / file).stat().st_size for file in (WEIGHTS, INDEX))
        declared = int(Bank(folder / "bank").bytes().sum())
    packed = sum(
        packed_bits_bytes(x.d_out, x.d_in, bits, group_size_for(x.d_in, args.group_size))
        for x in linears for bits in args.widths
    )  # fmt: skip
    entries = len(linears) * len(args.widths)

    key, unit = clock(device.type)
    minute = f"{unit.removesuffix('s')}minute"

    def per_minute(samples: Sequence[Sample]) -> float:
        return 60 * entries / median(samples, key)

    command = command_line("benchmarks.bank", args)
    what = f"bank of {args.model_dir.name}, {len(linears)} linears at {len(args.widths)} widths"
    piece = Piece("benchmarks", detail={"declared_bytes": declared, "entries": entries, "device": device.type})
    piece.keep("build", whole, single)
    piece.rows = [
        row(f"{what}: entries a {minute}; reference: one width at a time", per_minute(whole),
            per_minute(single), "entries/min", command, "more is better"),
        row(f"{what}: bytes on disk; reference: sum of packed bits", on_disk, packed, "bytes", command),
    ]  # fmt: skip
    return piece


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("Speed and bytes of the bank.", repeats=3)
    options.set_defaults(device="cpu")
    options.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    options.add_argument("--text", type=Path, required=True, help="calibration documents, JSON lines")
    options.add_argument("--tokens", type=int, default=4096, help="calibration tokens in all")
    options.add_argument("--length", type=int, default=512, help="tokens per window")
    options.add_argument("--widths", type=int, nargs="+", default=[3, 4, 5, 6], help="the menu")
    options.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    args = arguments().parse_args(argv)
    measure(args).write(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
