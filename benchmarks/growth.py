"""Benchmark of GPTQ's time and memory over four model sizes, each four times the parameters of the one before.

    python -m benchmarks.growth --out FILE.json

Every size is a random Llama of two blocks on disk, quantized and packed in a process of its own. The smallest is the
reference of all: a ratio of 64 at 64 times the parameters is growth in proportion. GPTQ's work is cubic in the width of
a layer, parameters are quadratic, so beyond small sizes the ratio approaches the 1.5th power of the parameters'.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Piece, Sample, clock, command_line, median, parser, row
from benchmarks.memory import in_own_process
from benchmarks.shapes import SIZES, BlockShape, write_checkpoint
from ramp.core import cli

LAYERS = 2


def weights_of(shape: BlockShape) -> int:
    """Return the weights of the linears of one block."""
    return sum(d_out * d_in for d_out, d_in in shape.linears.values())


def one(shape: BlockShape, args: argparse.Namespace) -> tuple[Sample, int]:
    """Return (time of one block, peak bytes of the process's own memory) of one size, measured once."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_checkpoint(folder / "model", replace(shape, layers=LAYERS), args.seed)
        (folder / "out").mkdir()
        found = in_own_process(folder / "model", args, folder / "out")
    return Sample(found["cpu_s"] / LAYERS, found["wall_s"] / LAYERS), int(found["peak_resident_bytes"])


def exponent(ratio: float, parameters: float) -> float:
    """Return p where ratio = parameters^p."""
    return math.log(ratio) / math.log(parameters)


def measure(args: argparse.Namespace, sizes: dict[str, BlockShape]) -> Piece:
    """Measure all sizes in turn, ``repeats`` rounds; medians, as ratios to the smallest size."""
    times: dict[str, list[Sample]] = {name: [] for name in sizes}
    peaks: dict[str, list[int]] = {name: [] for name in sizes}
    for _ in range(args.repeats):
        for name, shape in sizes.items():
            sample, peak = one(shape, args)
            times[name].append(sample)
            peaks[name].append(peak)
    command = command_line("benchmarks.growth", args)
    piece = Piece("benchmarks")
    smallest, *others = sizes
    base_peak = sorted(peaks[smallest])[len(peaks[smallest]) // 2]
    key, unit = clock(args.device)
    base_time = median(times[smallest], key)
    for name in others:
        share = weights_of(sizes[name]) / weights_of(sizes[smallest])
        time_s, peak = median(times[name], key), sorted(peaks[name])[len(peaks[name]) // 2]
        note = f"{share:.0f} times the weights: their power {exponent(time_s / base_time, share):.2f}"
        what = f"GPTQ of a block of {name} weights beside one of {smallest}"
        piece.rows.append(row(f"{what}: time", time_s, base_time, unit, command, note))
        note = f"{share:.0f} times the weights; the process with its libraries included"
        piece.rows.append(row(f"{what}: peak resident memory", peak, base_peak, "bytes", command, note))
    piece.detail = {
        name: {"weights": weights_of(shape), "cpu_s": [s.cpu_s for s in times[name]], "peak_bytes": peaks[name]}
        for name, shape in sizes.items()
    }
    return piece


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("Growth of time and memory over four sizes.", repeats=3)
    options.set_defaults(device="cpu")
    options.add_argument("--windows", type=int, default=8, help="calibration windows")
    options.add_argument("--length", type=int, default=128, help="tokens per window")
    options.add_argument("--bits", type=int, default=4, help="width")
    options.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    args = arguments().parse_args(argv)
    measure(args, SIZES).write(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
