"""Evaluation of rows on held-out text: perplexity, and KL from the float model, per window, with intervals.

    python -m ramp.evaluation reference --model-dir R/models/M --text heldout=R/texts/heldout.jsonl \\
        --windows 12 --out R/reference/M/heldout.safetensors
    python -m ramp.evaluation row --row-dir R/quantized/M/gptq-b4-s0 --model-dir R/models/M \\
        --reference heldout=R/reference/M/heldout.safetensors --out R/metrics/M/gptq-b4-s0.json

``reference`` keeps the float model's final hidden states, not its logits (hidden instead of vocab numbers per
token, about a hundredth); ``row`` sends them through the float head again, slice by slice. Both run in one
dtype, written in the reference's metadata, so that rounding of the arithmetic is common to both sides as far
as it can be. The perplexity protocol is GPTQ's: windows of 2,048 tokens (or the model's context), each by itself,
every position but the first predicted; without a limit, windows side by side from the text's beginning.

The metrics file is ``docs/architecture.md``, section 6; what is not finite is null, and ``note`` says so.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy, linear

from ramp import cli
from ramp.bootstrap import paired_difference
from ramp.divergence import (
    EvaluationError,
    Scorer,
    batches,
    check_windows,
    final_hidden,
    head_weight,
    nll_and_kl,
    slices,
)
from ramp.files import atomic_path, read_json, require_file, sha256_file, write_json
from ramp.metrics import metrics, same_network, text_metrics
from ramp.models import (
    CheckpointReader,
    architecture,
    load_float,
    load_tokenizer,
    pick_device,
    pick_dtype,
    read_config,
)
from ramp.provenance import hardware

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["EvaluationError", "Reference", "Scorer", "evaluate", "nll_and_kl", "paired_difference"]

log = logging.getLogger("ramp.evaluation")


@dataclass
class Reference:
    """The float model on the windows of one text."""

    hidden: Tensor  # (windows, length, hidden), after the final norm, in the dtype that it was computed in
    nll: Tensor  # float32 (windows, length - 1)
    windows: Tensor  # int64 (windows, length)
    about: dict[str, Any]  # model, text, text_sha256, dtype, length, requested_length

    def save(self, path: str | Path) -> None:
        """Write the safetensors file; metadata key ``ramp`` is ``about`` as JSON."""
        from safetensors.torch import save_file

        tensors = {"hidden": self.hidden, "nll": self.nll, "windows": self.windows}
        with atomic_path(path) as partial:
            save_file(
                {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
                partial,
                metadata={"ramp": json.dumps(self.about, sort_keys=True)},
            )

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read a reference; one sentence if the file is not one."""
        from safetensors import SafetensorError, safe_open

        require_file(path, "reference of the float model")
        try:
            with safe_open(str(path), framework="pt") as handle:
                hidden, nll, windows = (handle.get_tensor(name) for name in ("hidden", "nll", "windows"))
                return cls(hidden, nll, windows, json.loads(handle.metadata()["ramp"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise EvaluationError(f"{path} is no reference ({error}): run ramp.evaluation reference again") from None


@torch.inference_mode()
def make_reference(model: PreTrainedModel, windows: Tensor, about: Mapping[str, Any]) -> Reference:
    """Run the float model over ``windows``, int64 (windows, length)."""
    device = next(model.parameters()).device
    windows = check_windows(windows, model.config)
    head = head_weight(model)
    count, length = windows.shape
    hidden = torch.empty(count, length, head.shape[1], dtype=head.dtype)
    nll = torch.empty(count, length - 1, dtype=torch.float32)
    for index, states in _hidden_by_window(model, windows):
        hidden[index] = states.cpu()
        targets = windows[index, 1:].to(device)
        for part in slices(length - 1, head.shape[0], device):
            logits = linear(states[part], head).float()  # (slice, vocab)
            nll[index, part] = cross_entropy(logits, targets[part], reduction="none").cpu()
    dtype = str(head.dtype).removeprefix("torch.")
    return Reference(hidden, nll, windows, {**about, "dtype": dtype, "length": length, "windows": count})


def _hidden_by_window(model: PreTrainedModel, windows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(index, final hidden states (length, hidden)) of each window, computed in batches."""
    device = next(model.parameters()).device
    for part in batches(windows, device):
        for offset, states in enumerate(final_hidden(model, windows[part].to(device))):
            yield part.start + offset, states


@torch.inference_mode()
def evaluate(model: PreTrainedModel, reference: Reference, head: Tensor) -> list[dict[str, Any]]:
    """Per-window sums of a row: ``{"window", "tokens", "nll", "kl"}``, nll and kl in nats.

    head: the float model's output weight (vocab, hidden), in the reference's dtype, on the model's device.
    """
    device = head.device
    check_windows(reference.windows, model.config)
    own = head_weight(model)
    if own.shape[0] != head.shape[0]:
        raise EvaluationError(f"the row predicts {own.shape[0]} tokens, the float model {head.shape[0]}")
    found = []
    for index, states in _hidden_by_window(model, reference.windows):
        targets = reference.windows[index, 1:].to(device)
        ref_states = reference.hidden[index].to(device)
        nll_sum = kl_sum = 0.0
        for part in slices(len(targets), head.shape[0], device):
            ref_logits = linear(ref_states[part], head)
            nll, kl = nll_and_kl(linear(states[part], own), ref_logits, targets[part])
            nll_sum += float(nll.double().sum())
            kl_sum += float(kl.double().sum())
        found.append({"window": index, "tokens": len(targets), "nll": nll_sum, "kl": kl_sum})
        log.info("window %d of %d: perplexity %.3f", index + 1, len(reference.windows), _exp(nll_sum / len(targets)))
    return found


def float_head(model_dir: str | Path, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The float model's output weight (vocab, hidden); the embedding where the checkpoint ties them."""
    config = read_config(model_dir)
    arch, reader = architecture(config), CheckpointReader(model_dir)
    tied = bool(config.tie_word_embeddings) or f"{arch.head}.weight" not in reader
    return reader.get(f"{arch.embed if tied else arch.head}.weight").to(device, dtype)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _named_files(values: Sequence[str], option: str) -> dict[str, Path]:
    found = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not name.isidentifier():
            raise EvaluationError(f"{option} {value}: write NAME=FILE, the name of letters, digits and underscores")
        found[name] = Path(path)
    return found


def reference_command(args: argparse.Namespace) -> None:
    """``ramp.evaluation reference``."""
    from ramp.text import token_windows

    [(name, path)] = _named_files([args.text], "--text").items()
    config = read_config(args.model_dir)
    length = min(args.length, int(config.max_position_embeddings))
    if length < args.length:
        log.info("windows of %d tokens: the model's context, not the %d asked for", length, args.length)
    count = args.windows or None
    windows = token_windows(load_tokenizer(args.model_dir), path, length=length, count=count, spread=count is not None)
    device = pick_device(args.device)
    model = load_float(args.model_dir, pick_dtype(args.dtype, device), device)
    about = {
        "model": args.model_dir.name,
        "text": name,
        "text_sha256": sha256_file(path),
        "requested_length": args.length,
    }
    made = make_reference(model, windows, about)
    if not torch.isfinite(made.nll).all():
        raise EvaluationError(f"{args.model_dir} gives logits that are not finite on {path}: use --dtype float32")
    made.save(args.out)
    log.info("float model on %s: perplexity %.4f, %d windows of %d tokens", name, made.nll.mean().exp(), *windows.shape)


def row_command(args: argparse.Namespace) -> None:
    """``ramp.evaluation row``."""
    from ramp.checkpoint import load_dequantized, read_meta

    began = time.monotonic()
    meta = read_meta(args.row_dir)
    allocation = read_json(args.allocation) if args.allocation else None
    if meta.get("failed"):
        write_json(args.out, metrics(meta, {}, None, hardware=hardware()))
        log.info("%s did not run: %s", meta["method"], meta["failed"])
        return
    if args.same_as:
        write_json(args.out, same_network(meta, read_json(args.same_as)))
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
    if args.dtype not in ("auto", shared):
        raise EvaluationError(f"--dtype {args.dtype}, but the references are {shared}: KL compares like with like")
    dtype = pick_dtype(shared, device)
    model = load_dequantized(args.row_dir, args.model_dir, dtype, device)
    head = float_head(args.model_dir, dtype, device)
    texts = {name: text_metrics(evaluate(model, each, head), each.about["length"]) for name, each in references.items()}
    found = metrics(
        meta,
        texts,
        allocation,
        dtype=shared,
        hardware=hardware(str(device)),
        wall_s=round(time.monotonic() - began, 3),
    )
    write_json(args.out, found)
    for name, each in texts.items():
        log.info("%s on %s: perplexity %s, KL %s", meta["method"], name, each["ppl"], each["kl"])


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    top = argparse.ArgumentParser(description="Perplexity, and KL from the float model, with intervals.")
    commands = top.add_subparsers(required=True, metavar="reference|row")
    reference = commands.add_parser("reference", help="the float model on the windows of one text")
    cli.add_common(reference)
    reference.add_argument("--model-dir", type=Path, required=True, help="float checkpoint folder")
    reference.add_argument("--text", required=True, metavar="NAME=FILE", help="text and its column name")
    reference.add_argument("--length", type=int, default=2048, help="tokens per window; cut to the model's context")
    reference.add_argument("--windows", type=int, default=0, help="windows, evenly spread; 0 takes all, side by side")
    reference.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    reference.set_defaults(command=reference_command)
    row = commands.add_parser("row", help="one quantized, float or released row on all texts")
    cli.add_common(row)
    row.add_argument("--row-dir", type=Path, required=True, help="folder with meta.json and, if packed, its weights")
    row.add_argument("--model-dir", type=Path, required=True, help="float checkpoint folder")
    row.add_argument("--reference", nargs="*", default=[], metavar="NAME=FILE", help="float references, by text")
    row.add_argument("--allocation", type=Path, default=None, help="allocation file, for the cost of its search")
    row.add_argument("--same-as", type=Path, default=None, help="metrics of the same network: copied, not measured")
    row.add_argument("--out", type=Path, required=True, help="metrics file to write")
    row.set_defaults(command=row_command)
    args = top.parse_args(argv)
    cli.set_threads(args.threads)
    args.command(args)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
