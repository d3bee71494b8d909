"""Evaluate rows on held-out text: perplexity, and KL from the float model, per window, with intervals.

    python -m ramp.evaluation reference --model-dir R/models/M --text heldout=R/texts/heldout.jsonl \\
        --windows 12 --out R/reference/M/heldout.safetensors
    python -m ramp.evaluation row --row-dir R/quantized/M/gptq-b4-s0 --model-dir R/models/M \\
        --reference heldout=R/reference/M/heldout.safetensors --out R/metrics/M/gptq-b4-s0.json

``reference`` keeps the float model's final hidden states, not its logits (hidden instead of vocab numbers per
token, about a hundredth); ``row`` applies the float head to them again, slice by slice. Both run in one dtype, written
in the reference's metadata, so that both sides round alike. The perplexity protocol is GPTQ's: independent windows of
2,048 tokens (or the model's context), every position but the first predicted; without a limit, adjacent windows from
the text's start.

The metrics file is described in ``ramp.evaluation.metrics``; what is not finite is null, and ``note`` says so.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import sha256_file, write_json
from ramp.core.cli import log
from ramp.core.provenance import hardware

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import torch

    from ramp.core.safe_name import NAME_PATTERN
    from ramp.core.tensor_file import equal_tensors
    from ramp.evaluation.heldout import Reference, evaluate, float_head, make_reference
    from ramp.evaluation.metrics import ALIKE, metrics, same_network, text_metrics, twin_network
    from ramp.evaluation.metrics_file import read_metrics
    from ramp.models.device import dtype_name, pick_device, pick_dtype
    from ramp.models.folder import ModelFolder
    from ramp.models.streamed_model import open_model
    from ramp.problem.allocation import read_allocation
    from ramp.rows.checkpoint import open_dequantized
    from ramp.rows.meta_file import read_meta, read_meta_of
    from ramp.scoring.kl_divergence import EvaluationError


def _named_files(values: Sequence[str], option: str) -> dict[str, Path]:
    found = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (equals and path) or not re.fullmatch(NAME_PATTERN, name):
            raise EvaluationError(f"{option} {value}: write NAME=FILE, the name of a-z, 0-9, '.', '-' and '_'")
        found[name] = Path(path)
    return found


def reference_command(args: argparse.Namespace) -> None:
    """Write the reference of the float model on one text."""
    [(name, path)] = _named_files([args.text], "--text").items()
    folder = ModelFolder(args.model_dir)
    windows = folder.windows(path, length=args.length, count=args.windows or None)
    device = pick_device(args.device)
    folder.check()
    model = open_model(folder.config, pick_dtype(args.dtype, args.model_dir), device, folder.reader.get)
    about = {"model": folder.name, "text": name, "text_sha256": sha256_file(path), "requested_length": args.length}
    made = make_reference(model, windows, about)
    if not torch.isfinite(made.nll).all():
        raise EvaluationError(f"{args.model_dir} gives logits that are not finite on {path}: use --dtype float32")
    made.save(args.out)
    log.info("float model on %s: perplexity %.4f, %d windows of %d tokens", name, made.nll.mean().exp(), *windows.shape)


def is_twin(row: Path, meta: Mapping[str, Any], weights: Path) -> bool:
    """Return whether a row has the weights of another, whose packed file is ``weights``: two searches ended alike."""
    other = read_meta(weights.parent)
    return all(meta.get(name) == other.get(name) for name in ALIKE) and equal_tensors(row / weights.name, weights)


def row_command(args: argparse.Namespace) -> None:
    """Write the metrics file of one row."""
    began = time.monotonic()
    meta = read_meta_of(args.row_dir, args.model_dir)
    allocation = read_allocation(args.allocation).model_dump() if args.allocation else None
    if meta.get("failed"):  # could not be made: key and reason, no scores
        write_json(args.out, metrics(meta, {}, None, hardware=hardware()), sealed=True)
        log.info("%s did not run: %s", meta["method"], meta["failed"])
        return
    if args.same_as:
        write_json(args.out, same_network(meta, read_metrics(args.same_as).written()), sealed=True)
        return
    if args.twin and is_twin(args.row_dir, meta, args.twin[0]):
        write_json(args.out, twin_network(meta, read_metrics(args.twin[1]).written(), allocation), sealed=True)
        log.info("%s has the weights of %s: its scores are copied", args.row_dir, args.twin[0].parent)
        return
    files = _named_files(args.reference, "--reference")
    if not files:
        raise EvaluationError("nothing to evaluate on: pass --reference NAME=FILE, or --same-as a metrics file")
    references = {name: Reference.load(path) for name, path in files.items()}
    for name, reference in references.items():
        about = reference.about
        if about["model"] != meta["model"] or about["text"] != name:
            raise EvaluationError(
                f"{files[name]} is of {about['model']} on {about['text']}, the row is of {meta['model']} and the name "
                f"given is {name}: pass the row's own reference"
            )
    dtypes = {reference.about["dtype"] for reference in references.values()}
    if len(dtypes) > 1:
        raise EvaluationError(f"references were computed in {' and '.join(sorted(dtypes))}: make them in one dtype")
    shared = dtypes.pop()
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, args.model_dir)
    if dtype_name(dtype) != shared:
        raise EvaluationError(
            f"--dtype {args.dtype}, but the references are {shared}: KL compares like with like, pass --dtype {shared}"
        )
    model = open_dequantized(args.row_dir, args.model_dir, dtype, device)
    head = float_head(args.model_dir, dtype, device)
    texts = {name: text_metrics(evaluate(model, each, head), each.about["length"]) for name, each in references.items()}
    found = metrics(
        meta,
        texts,
        allocation,
        note=ModelFolder(args.model_dir).rounding(dtype),
        dtype=shared,
        hardware=hardware(str(device)),
        wall_s=round(time.monotonic() - began, 3),
    )
    write_json(args.out, found, sealed=True)
    for name, each in texts.items():
        log.info("%s on %s: perplexity %s, KL %s", meta["method"], name, each["ppl"], each["kl"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    top = cli.Parser(description="Perplexity, and KL from the float model, with intervals.")
    commands = top.add_subparsers(required=True, metavar="reference|row")
    reference = commands.add_parser("reference", help="the float model on the windows of one text")
    cli.add_common(reference, "--model-dir --out")
    reference.add_argument("--text", required=True, metavar="NAME=FILE", help="text and its column name")
    reference.add_argument("--length", type=int, default=2048, help="tokens per window; cut to the model's context")
    reference.add_argument("--windows", type=int, default=0, help="windows, evenly spread; 0 takes all")
    reference.set_defaults(command=reference_command)
    row = commands.add_parser("row", help="one quantized, float or released row on all texts")
    cli.add_common(row, "--row-dir --model-dir --out")
    row.add_argument("--reference", nargs="*", default=[], metavar="NAME=FILE", help="float references, by text")
    row.add_argument("--allocation", type=Path, default=None, help="allocation file, for the cost of its search")
    row.add_argument(
        "--twin", type=Path, nargs=2, default=None, metavar=("WEIGHTS", "METRICS"),
        help="packed file and metrics of another row, whose scores are copied where all tensors are the same",
    )  # fmt: skip
    row.add_argument("--same-as", type=Path, default=None, help="metrics of the same network: copied, not measured")
    row.set_defaults(command=row_command)
    args = top.parse_args(argv)
    args.command(args)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
