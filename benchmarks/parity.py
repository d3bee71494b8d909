"""Parity of our GPTQ or AWQ and a package's, on the same model, windows, width, groups and grid.

    python -m benchmarks.parity --method gptq --package baselines/gptqmodel_gptq.py --reference-python PY \\
        --model-dir D --text CALIBRATION --heldout HELDOUT --bits 3 4 --group-size 64 --grids asym sym --out FILE.json

Per width, group size and grid: the reconstruction error of both on the calibration windows (``benchmarks.distance``: of
linears for GPTQ, of blocks for AWQ, whose scales make single linears incomparable), and their KL on held-out windows.
``--our-params`` and ``--package-params`` set either side otherwise, to find the cause of a difference; such rows are
named by ``--settings``. A package that fails leaves a row with its reason and no numbers.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.measure import BenchmarkError, Piece, command_line, parser, ratio
from benchmarks.ours import Quantized, quantize_ours
from benchmarks.packages import Package, quantize_package
from ramp.core import cli
from ramp.core.errors import RampError

log = logging.getLogger("benchmarks.parity")

MEASURES = {"gptq": "linears", "awq": "blocks"}
"""Which reconstruction error compares a method's rows."""

DAMPING = 0.01
"""Share of the Hessian's mean diagonal in equal settings: the paper's. gptqmodel's own default is 0.05."""

EQUAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gptq": (
        {"act_order": False, "damping": DAMPING},
        {"act_order": False, "act_group_aware": False, "damping": DAMPING},  # its order is not ours: off on both sides
    ),
    "awq": ({}, {}),
}
"""Parameters of (ours, the package) beside the grid, by method. Groups lie in memory order on both sides."""


def reconstruction(measure: str, model_dir: Path, windows: Tensor, state: Mapping[str, Tensor]) -> list[float]:
    """Return the error (``benchmarks.distance``) of every linear or block; their sum is a row's error."""
    from benchmarks.distance import block_errors, linear_errors

    if measure == "linears":
        return list(linear_errors(model_dir, windows, state).values())
    return block_errors(model_dir, windows, state)


def spread(measure: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the spread of the ratios over linears or blocks in words: one of them may dominate a sum."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True) if mine > 0 < other]
    if not ratios:
        return ""
    largest = max(range(len(theirs)), key=theirs.__getitem__)
    return (
        f"geometric mean of the ratios over {len(ratios)} {measure} {statistics.geometric_mean(ratios):.3f}, median "
        f"{statistics.median(ratios):.3f}; the largest has {100 * theirs[largest] / sum(theirs):.0f} % of the sum"
    )


def row_of(args: argparse.Namespace, package: Package, bits: int, group_size: int, grid: str) -> dict[str, Any]:
    """Return a row's key, without its numbers."""
    return {
        "method": args.method, "reference": package.title, "model": args.model_dir.name, "bits": bits,
        "group_size": group_size, "symmetric": grid == "sym", "settings": args.settings,
        "error_measure": MEASURES[args.method], "command": command_line("benchmarks.parity", args),
    }  # fmt: skip


def compare(
    measure: str, model_dir: Path, windows: Tensor, heldout: Tensor, ours: Quantized, theirs: Quantized
) -> dict[str, Any]:
    """Return the numbers of one row."""
    from benchmarks.distance import kl_of

    errors = [reconstruction(measure, model_dir, windows, each.state) for each in (ours, theirs)]
    kl, (mine, other) = kl_of(model_dir, heldout, {"ours": ours.state, "theirs": theirs.state}), map(sum, errors)
    return {
        "kl_ours": kl["ours"], "kl_reference": kl["theirs"], "ratio": ratio(kl["ours"], kl["theirs"]),
        "error_ours": mine, "error_reference": other, "error_ratio": ratio(mine, other),
        "note": spread(measure, *errors),
    }  # fmt: skip


def read_windows(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return (calibration windows, held-out windows), int64 [count, length]; lengths cut to the model's context."""
    from ramp.models.folder import ModelFolder

    folder = ModelFolder(args.model_dir)
    length = min(args.length, int(folder.config.max_position_embeddings))
    return (
        folder.windows(args.text, length=length, count=args.tokens // length),
        folder.windows(args.heldout, length=args.heldout_length, count=args.heldout_windows),
    )


def measure(args: argparse.Namespace, package: Package) -> Piece:
    """Compare all widths, group sizes and grids."""
    windows, heldout = read_windows(args)
    piece = Piece("parity", detail={"calibration": list(windows.shape), "heldout": list(heldout.shape)})
    for group_size in args.group_size:
        for bits in args.bits:
            for grid in args.grids:
                row = row_of(args, package, bits, group_size, grid)
                ours_given, package_given = equal(args.method, grid)
                try:
                    ours = quantize_ours(
                        args.method, args.model_dir, windows, bits, group_size, {**ours_given, **args.our_params}
                    )
                    given = {**package.grid(package_given), **args.package_params}
                    theirs, note = quantize_package(
                        package, args.model_dir, windows, bits, group_size, given, threads=args.threads, seed=args.seed
                    )
                    row |= compare(row["error_measure"], args.model_dir, windows, heldout, ours, theirs)
                    row["note"] = "; ".join(part for part in (note, row["note"]) if part)
                except RampError as error:  # the other rows are measured; this one keeps the reason
                    row["note"] = str(error)
                log.info("%s", {key: value for key, value in row.items() if key != "command"})
                piece.rows.append(row)
    if not piece.rows:
        raise BenchmarkError("nothing to compare: give at least one width, group size and grid")
    return piece


def equal(method: str, grid: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return parameters of (ours, the package) with the same meaning."""
    ours, package = EQUAL[method]
    return {**ours, "sym": grid == "sym"}, {**package, "sym": grid == "sym"}


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("Our quantizer beside a package's.", repeats=None, reference="the package")
    options.add_argument("--method", choices=list(MEASURES), required=True, help="our method")
    options.add_argument("--package", type=Path, required=True, help="file in baselines/ that runs the package")
    options.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    options.add_argument("--text", type=Path, required=True, help="calibration documents, JSON lines")
    options.add_argument("--heldout", type=Path, required=True, help="held-out documents, JSON lines")
    options.add_argument("--tokens", type=int, default=8192, help="calibration tokens in all")
    options.add_argument("--length", type=int, default=512, help="tokens per calibration window")
    options.add_argument("--heldout-windows", type=int, default=8, help="held-out windows")
    options.add_argument("--heldout-length", type=int, default=512, help="tokens per held-out window")
    options.add_argument("--bits", type=int, nargs="+", default=[3, 4], help="widths")
    options.add_argument("--group-size", type=int, nargs="+", default=[64], help="group sizes")
    options.add_argument("--grids", nargs="+", choices=("asym", "sym"), default=["asym", "sym"], help="grids")
    options.add_argument("--settings", default="equal", help="what the rows are called; equal: both sides set alike")
    options.add_argument("--our-params", type=cli.json_object, default={}, help="JSON object: ours, set otherwise")
    options.add_argument("--package-params", type=cli.json_object, default={}, help="JSON object: the package's")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    args = arguments().parse_args(argv)
    package = Package.read(args.package, args.reference_python)
    piece = measure(args, package)
    piece.write(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
