"""Benchmark of a whole model by GPTQ or AWQ, ours and a package's: from checkpoint to quantized weights.

    python -m benchmarks.model --method gptq --package baselines/gptqmodel_gptq.py --reference-python PY \\
        --model-dir R/models/smollm2-135m --text R/texts/calibration.jsonl --out FILE.json

Both sides load the checkpoint, calibrate on the same windows and quantize with the settings of ``benchmarks.parity``.
The package runs in a process of its own, and what importing it costs (measured beside it) is taken off. The errors of
both are in the piece, so that no speed is bought with error unseen. ``--block-of`` makes a checkpoint of one random
decoder block instead of reading a model: AWQ at the shape of a large model.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Piece, Sample, alternate, command_line, compared, parser, ratio, row
from benchmarks.ours import Quantized, quantize_ours
from benchmarks.packages import Package, import_sample, quantize_package
from benchmarks.parity import MEASURES, equal, reconstruction
from benchmarks.shapes import LLAMA_7B, SIZES, write_checkpoint
from ramp.core import cli

BLOCKS = {**SIZES, "7B": LLAMA_7B}


def windows_of(args: argparse.Namespace) -> Tensor:
    """Return calibration windows int64 [count, length]: of the text, or random tokens for a random block."""
    from ramp.calibration.windows import calibration_windows

    if args.block_of:
        generator = torch.Generator().manual_seed(args.seed)
        shape = BLOCKS[args.block_of]
        return torch.randint(0, shape.vocab, (args.tokens // args.length, args.length), generator=generator)
    return calibration_windows(args.model_dir, args.text, tokens=args.tokens, length=args.length)


def measure(args: argparse.Namespace, package: Package, model_dir: Path, what: str) -> Piece:
    """Measure ours and the package in alternation."""
    windows, (ours_given, package_given) = windows_of(args), equal(args.method, args.grid)
    package_given = package.grid(package_given)
    last: dict[str, Quantized] = {}

    def ours() -> Sample:
        last["ours"] = quantize_ours(args.method, model_dir, windows, args.bits, args.group_size, ours_given)
        return last["ours"].sample

    def theirs() -> Sample:
        imported = import_sample(package)
        last["theirs"], _ = quantize_package(
            package, model_dir, windows, args.bits, args.group_size, package_given, threads=args.threads, seed=args.seed
        )
        spent = last["theirs"].sample
        return Sample(spent.cpu_s - imported.cpu_s, spent.wall_s - imported.wall_s)

    samples = alternate(ours, theirs, args.repeats)
    kind = MEASURES[args.method]
    errors = [sum(reconstruction(kind, model_dir, windows, last[side].state)) for side in ("ours", "theirs")]
    command = command_line("benchmarks.model", args)
    title = f"{args.method.upper()} of {what}, {args.bits} bits, {windows.numel()} tokens, against {package.title}"
    piece = Piece("benchmarks")
    piece.keep("times", *samples)
    piece.detail["error ratio"] = ratio(*errors)
    piece.rows = [
        compared(f"{title}: time", *samples, command),
        row(f"{title}: reconstruction error of {kind}", errors[0], errors[1], "squared output", command),
    ]
    return piece


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("A whole model, ours beside a package.", repeats=1, reference="the package")
    options.add_argument("--method", choices=list(MEASURES), required=True, help="our method")
    options.add_argument("--package", type=Path, required=True, help="file in baselines/ that runs the package")
    options.add_argument("--model-dir", type=Path, help="Hugging Face checkpoint folder")
    options.add_argument("--text", type=Path, help="calibration documents, JSON lines")
    options.add_argument("--block-of", choices=list(BLOCKS), help="one random decoder block of this size, no model")
    options.add_argument("--tokens", type=int, default=4096, help="calibration tokens in all")
    options.add_argument("--length", type=int, default=512, help="tokens per window")
    options.add_argument("--bits", type=int, default=4, help="width")
    options.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    options.add_argument("--grid", choices=("asym", "sym"), default="asym", help="grid")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    options = arguments()
    args = options.parse_args(argv)
    if not args.block_of and (args.model_dir is None or args.text is None):
        options.error("give --model-dir and --text, or --block-of")
    package = Package.read(args.package, args.reference_python)
    if not args.block_of:
        measure(args, package, args.model_dir, args.model_dir.name).write(args.out)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        model_dir, shape = Path(temporary) / "block", replace(BLOCKS[args.block_of], layers=1)
        write_checkpoint(model_dir, shape, args.seed)
        for file in args.model_dir.glob("tokenizer*") if args.model_dir else ():
            shutil.copy(file, model_dir)  # packages load a tokenizer, unused
        measure(args, package, model_dir, f"a block of {shape.hidden}/{shape.intermediate}").write(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
