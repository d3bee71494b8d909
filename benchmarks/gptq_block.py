"""GPTQ of one decoder block of a 7B's shape: ours beside gptqmodel's own GPTQ class, from the same inputs.

    python -m benchmarks.gptq_block --reference-python .envs/gptqmodel/bin/python --out FILE.json

Both sides get the same weights and the same calibration inputs of each of the block's four sites, collect their own
Hessians and quantize; bits, groups, grid, order of columns and damping are equal. The error of both is measured here:
sum over the seven linears of tr(dW H dW^T) with one float64-accumulated Hessian.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Piece, Sample, alternate, command_line, compared, parser, ratio, row, timed
from benchmarks.reference import Reference
from benchmarks.shapes import BlockShape, site_inputs
from ramp.core import cli


def hessian_of(x: Tensor, length: int) -> Tensor:
    """Return X^T X / n as ``ramp.calibration.block`` sums it: float32 [d_in, d_in], window by window."""
    total = torch.zeros(x.shape[1], x.shape[1])
    for window in x.split(length):
        total.addmm_(window.T, window)
    return total.div_(len(x))


def ours(x: Tensor, weights: dict[str, Tensor], args: argparse.Namespace) -> tuple[Sample, Sample]:
    """Return the times of collecting the Hessian and of quantizing one site; the second's value is {role: weight}."""
    from ramp.methods.kinds import GptqParams
    from ramp.quantizers.site import quantize_site

    params = GptqParams(act_order=args.act_order, damping=args.damping)
    collected = timed(lambda: hessian_of(x, args.length))
    menu = {role: [args.bits] for role in weights}

    def quantize() -> dict[str, Tensor]:
        found = quantize_site(weights, collected.value, menu, args.group_size, "gptq", params)
        return {role: q.dequantize() for (role, _), q in found.items()}

    return collected, timed(quantize)


def theirs(reference: Reference, folder: Path, args: argparse.Namespace) -> tuple[Sample, Sample]:
    """Return the same of the package, whose process measures itself."""
    from safetensors.torch import load_file

    spent = reference.ask(
        "gptq", inputs=str(folder / "in.safetensors"), out=str(folder / "out.safetensors"), length=args.length,
        bits=args.bits, group_size=args.group_size, sym=False, act_order=args.act_order, damping=args.damping,
    )  # fmt: skip
    found = load_file(folder / "out.safetensors")
    return (
        Sample(spent["hessian_cpu_s"], spent["hessian_wall_s"]),
        Sample(spent["quantize_cpu_s"], spent["quantize_wall_s"], found),
    )


def error_of(found: dict[str, Tensor], weights: dict[str, Tensor], hessian: Tensor) -> float:
    """Return the sum over linears of tr(dW H dW^T), squared output, summed in float64."""
    total = 0.0
    for role, weight in weights.items():
        difference = found[role].float() - weight
        total += float(((difference @ hessian) * difference).sum(dtype=torch.float64))
    return total


def add(*samples: Sample) -> Sample:
    """Add the times of the parts of one measurement."""
    return Sample(sum(x.cpu_s for x in samples), sum(x.wall_s for x in samples))


@dataclass
class Side:
    """The cost of one side at every repeat, parts summed over sites, and its error."""

    hessian: list[Sample]
    quantize: list[Sample]
    error: float = 0.0

    @property
    def whole(self) -> list[Sample]:
        """Both parts of every repeat."""
        return [add(*pair) for pair in zip(self.hessian, self.quantize, strict=True)]


def measure_site(
    work: Sequence[Callable[[], tuple[Sample, Sample]]],
    sides: Sequence[Side],
    repeats: int,
    error: Callable[..., float],
) -> None:
    """Measure one site by both sides in turn; its times are added to those of the sites before it, repeat by repeat."""
    runs: list[list[tuple[Sample, Sample]]] = [[], []]
    last: dict[int, Any] = {}  # weights of one repeat are enough, and large

    def turn(which: int) -> Sample:
        collected, made = work[which]()
        last[which] = made.value
        runs[which].append((add(collected), add(made)))
        return add(collected, made)

    alternate(lambda: turn(0), lambda: turn(1), repeats)
    for which, (side, done) in enumerate(zip(sides, runs, strict=True)):
        side.hessian = [add(sum_, collected) for sum_, (collected, _) in zip(side.hessian, done, strict=True)]
        side.quantize = [add(sum_, made) for sum_, (_, made) in zip(side.quantize, done, strict=True)]
        side.error += error(last[which])


def measure(args: argparse.Namespace, reference: Reference) -> Piece:
    """Measure all sites of the block; only one site's inputs are in memory at a time."""
    from safetensors.torch import save_file

    shape = BlockShape(args.hidden, args.intermediate, args.heads, args.heads)
    mine, other = (Side([Sample(0, 0)] * args.repeats, [Sample(0, 0)] * args.repeats) for _ in range(2))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for _, x, weights in site_inputs(shape, args.tokens, args.seed):
            save_file({"x": x, **{f"weight/{role}": w for role, w in weights.items()}}, folder / "in.safetensors")
            hessian = hessian_of(x, args.length)
            measure_site(
                (partial(ours, x, weights, args), partial(theirs, reference, folder, args)),
                (mine, other), args.repeats, partial(error_of, weights=weights, hessian=hessian),
            )  # fmt: skip
    command = command_line("benchmarks.gptq_block", args)
    order = "act-order" if args.act_order else "columns in order"
    title = (
        f"GPTQ of a decoder block {args.hidden}/{args.intermediate}, {args.tokens} tokens, {args.bits} bits, {order}"
    )
    piece = Piece("benchmarks", detail={"error ratio": ratio(mine.error, other.error)})
    for part, what in (("whole", "Hessians and quantizing"), ("quantize", "quantizing"), ("hessian", "Hessians")):
        pair = getattr(mine, part), getattr(other, part)
        piece.rows.append(compared(f"{title}: {what}", *pair, command))
        piece.keep(part, *pair)
    piece.rows.append(row(f"{title}: sum of tr(dW H dW^T)", mine.error, other.error, "squared output", command))
    return piece


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("GPTQ of one decoder block, ours beside gptqmodel.", reference="gptqmodel")
    options.add_argument("--hidden", type=int, default=4096, help="hidden size")
    options.add_argument("--intermediate", type=int, default=11008, help="intermediate size")
    options.add_argument("--heads", type=int, default=32, help="attention heads")
    options.add_argument("--tokens", type=int, default=2048, help="calibration tokens")
    options.add_argument("--length", type=int, default=512, help="tokens per window")
    options.add_argument("--bits", type=int, default=4, help="width")
    options.add_argument("--group-size", type=int, default=128, help="weights that share one scale")
    options.add_argument("--damping", type=float, default=0.01, help="share of the mean diagonal that is added")
    options.add_argument("--act-order", action="store_true", help="columns by falling diagonal, static groups")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    args = arguments().parse_args(argv)
    with Reference(args.reference_python, args.threads, args.out.with_suffix(".log")) as reference:
        measure(args, reference).write(args.out, reference.versions)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
