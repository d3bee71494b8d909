"""The exact optimum's stage: every allocation of a small problem, scored on search text -> an index and its scores.

    python -m ramp.optimum --model-dir R/models/M --bank R/bank/M/awq-gptq --fold R/folds/M/awq.safetensors \\
        --calibration R/calibration/M.safetensors --text R/texts/search.jsonl --windows 8 --length 64 \\
        --units halves-8 --widths 3 4 5 6 --state-dir R/.state --out R/optimum/M/halves-8.json

Eight units (``ramp.optimum.units``) of four widths are 65,536 allocations; ``ramp.optimum.half_blocks`` scores them
in float32 at the cost of a half-block and the head each. Killed, the command goes on where it stopped. With the index
it writes ``{same name}.safetensors``: ``kl`` and ``nll``, float64 [w] * n, nats per token.

The index: ``model, units, widths, linears`` (the units as allocators see them), ``members`` (linears of each unit, as
in bank.json), ``bytes`` [n][w], ``features`` [n][9], ``group_size, fold, quantizer, windows, length, scored_tokens,
nll_float``, ``additivity`` (per width: ``bits, kl_sum, kl_joint, ratio``), ``wall_s, command, commit, versions,
hardware``.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import remove, require_file, write_json
from ramp.core.output_path import OutputFile, OutputFolder
from ramp.core.provenance import commit, hardware, versions

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import torch

    from ramp.optimum.enumerate import additivity, describe, enumerate_all, state_file, write_scores
    from ramp.optimum.half_blocks import HalfBlocks
    from ramp.optimum.units import OptimumError, make_units
    from ramp.problem.banked_model import BankedModel

log = logging.getLogger("ramp.optimum")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Score every allocation of a problem that is small enough; resumes after a kill.")
    parser.add_argument("--model-dir", type=Path, required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--bank", type=Path, required=True, help="bank folder (ramp.bank.bank)")
    parser.add_argument("--fold", type=Path, required=True, help="fold file that the bank was made with")
    parser.add_argument("--calibration", type=Path, required=True, help="activation statistics (ramp.calibration)")
    parser.add_argument("--text", type=Path, required=True, help="search text")
    parser.add_argument("--windows", type=int, default=8, help="windows, spread over it")
    parser.add_argument("--length", type=int, default=64, help="tokens per window")
    parser.add_argument("--units", default="halves-8", help="halves-N or linears-N: the last N of the model")
    parser.add_argument("--widths", type=int, nargs="+", default=[3, 4, 5, 6], help="bits of a unit; at most four")
    parser.add_argument(
        "--state-dir", type=OutputFolder, required=True, help="folder for scores so far, kept across kills"
    )
    parser.add_argument("--out", type=OutputFile, required=True, help="index to write; the scores lie beside it")
    args = parser.parse_args(argv)
    if not 2 <= len(set(args.widths)) == len(args.widths) <= 4:
        raise OptimumError(f"--widths {args.widths}: give two to four distinct widths")
    began, widths = time.monotonic(), sorted(args.widths)
    inputs = [args.model_dir, args.bank, *(require_file(f, "input") for f in (args.fold, args.calibration, args.text))]
    settings = {key: getattr(args, key) for key in ("units", "windows", "length", "threads")}
    kept = state_file(args.state_dir, inputs, settings | {"widths": widths})
    banked = BankedModel(args.model_dir, args.bank, args.fold)
    if unknown := sorted(set(widths) - set(banked.bank.widths)):
        raise OptimumError(
            f"{args.bank} has no {unknown[0]} bits (widths: {list(banked.bank.widths)}): build it with them"
        )
    units = make_units(banked.linears, args.units)
    text = banked.windows(args.text, length=args.length, count=args.windows)
    chain = HalfBlocks(banked.float_model(torch.float32), banked.bank, units, widths, text)
    kl, nll = enumerate_all(chain, len(units), len(widths), kept)
    record = describe(banked, args.calibration, units, widths) | {
        "units": args.units,
        "windows": args.windows,
        "length": args.length,
        "scored_tokens": args.windows * (args.length - 1),
        "additivity": additivity(chain, kl, widths),
        "nll_float": chain.nll_float,
        "wall_s": round(time.monotonic() - began, 3),
        "command": command(args),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
    }
    write_scores(args.out.with_suffix(".safetensors"), kl, nll)
    write_json(args.out, record, sealed=True)
    remove(kept)
    log.info("%d allocations of %s of %s: least KL %.5f", kl.size, args.units, record["model"], float(kl.min()))
    return 0


def command(args: argparse.Namespace) -> str:
    """Return the command that makes an enumeration, R for the results folder: records hold no path of a machine."""
    asked = f"--windows {args.windows} --length {args.length} --widths {' '.join(map(str, sorted(args.widths)))}"
    model, state = args.model_dir.name, "--state-dir R/.state"
    made = f"--bank R/bank/{model}/{args.bank.name} --fold R/folds/{model}/{args.fold.name}"
    read = f"--calibration R/calibration/{model}.safetensors --text R/texts/{args.text.name}"
    out = f"--out R/optimum/{model}/{args.units}.json"
    where = f"--model-dir R/models/{model} {made} {read}"
    return f"python -m ramp.optimum {where} --units {args.units} {asked} {state} {out}"


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
