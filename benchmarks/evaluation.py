"""Benchmark of evaluations of allocations a minute against the naive loop, at equal scores.

    python -m benchmarks.evaluation --model-dir R/models/M --text R/texts/search.jsonl --bank R/bank/M/B --out FILE.json
    python -m benchmarks.evaluation --shape 7B --device cuda --tokens 8192 --out FILE.json

Ours is what a search does: write what changed from the bank into one model, run it from the first block that changed,
score it with ``ramp.scoring.prefix_cache``. The naive loop assigns float32 weights to every linear, runs the whole
model in float32 and takes a log-softmax of all logits against the float model's, kept in float32. Both have
de-quantized weights in memory; unpacking the bank once is timed apart. Allocations are drawn from the seed; single
changes are spread evenly over the linears of one base allocation, so that early and late blocks weigh alike.

Without ``--bank`` the model is rounded to nearest into a bank of its own. ``--shape`` makes a checkpoint of random
weights in a scratch folder instead of reading a model, and random tokens; it has no naive loop beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import BenchmarkError, Piece, Sample, alternate, clock, command_line, parser, row, timed
from benchmarks.shapes import LLAMA_7B, SIZES, write_checkpoint
from ramp.bank.bank import Bank
from ramp.bank.build import build_bank
from ramp.calibration.folding import Fold, folded_float_model, load_fold
from ramp.core import cli
from ramp.models.device import pick_device, pick_dtype
from ramp.models.folder import ModelFolder
from ramp.scoring.prefix_cache import PrefixScorer, block_names

SHAPES = {**SIZES, "7B": LLAMA_7B}

EQUAL = 5e-4
"""Relative difference up to which two scores count as equal to three digits."""


@dataclass
class Subject:
    """A model, its fold and bank, and windows int64 [count, length]."""

    name: str
    model_dir: Path
    fold: Fold
    bank: Bank
    windows: Tensor


def synchronize(device: torch.device) -> None:
    """Wait for the GPU, where there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Ours:
    """One evaluation as a search makes it."""

    def __init__(self, subject: Subject, dtype: torch.dtype, device: torch.device) -> None:
        self.bank, self.device = subject.bank, device
        self.model = folded_float_model(subject.model_dir, subject.fold, dtype, device)
        self.scorer = PrefixScorer(self.model, subject.windows)

    def __call__(self, choice: np.ndarray) -> float:
        """Return the KL of an allocation, int [n]."""
        self.bank.assemble(self.model, choice)
        kl = self.scorer.score(self.model, block_names(self.bank.linears, choice)).kl
        synchronize(self.device)
        return kl


class Naive:
    """Float32 from end to end; the reference's log-probabilities (1.6 GB for 8,192 tokens of SmolLM2) are kept."""

    @torch.inference_mode()
    def __init__(self, subject: Subject, device: torch.device, batch: int = 4) -> None:
        self.bank, self.parts = subject.bank, subject.windows.to(device).split(batch)
        self.model: Any = folded_float_model(subject.model_dir, subject.fold, torch.float32, device)
        self.log_p = [self._log_probabilities(part) for part in self.parts]
        self.weights = {
            (x.name, bits): self.bank.quantized(x.name, bits, device).dequantize()
            for x in self.bank.linears for bits in self.bank.widths
        }  # fmt: skip

    def _log_probabilities(self, part: Tensor) -> Tensor:
        return torch.log_softmax(self.model(input_ids=part, use_cache=False).logits[:, :-1], dim=-1)

    @torch.inference_mode()
    def __call__(self, choice: np.ndarray) -> float:
        """Return the KL of an allocation, int [n]."""
        for x, index in zip(self.bank.linears, choice, strict=True):
            self.model.get_submodule(x.name).weight.copy_(self.weights[x.name, self.bank.widths[index]])
        total, tokens = 0.0, 0
        for part, log_p in zip(self.parts, self.log_p, strict=True):
            log_q = self._log_probabilities(part)  # (windows, length - 1, vocab)
            total += float((log_p.exp() * (log_p - log_q)).sum(-1).double().sum())
            tokens += log_q.shape[0] * log_q.shape[1]
        return total / tokens


def allocations(bank: Bank, count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield whole allocations, each linear's width drawn independently: int [n]."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        yield draw.integers(len(bank.widths), size=len(bank.linears))


def single_changes(bank: Bank, base: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield ``base`` with one linear at its next width, linears evenly spread over the model, shuffled."""
    n = len(bank.linears)
    places = [int((i + 0.5) * n / count) for i in range(count)]
    for place in np.random.default_rng(0).permutation(places):
        changed = base.copy()
        changed[place] = (changed[place] + 1) % len(bank.widths)
        yield changed


@dataclass
class Alternated:
    """Evaluations of the same candidates by both sides, in alternation."""

    ours: list[Sample]
    reference: list[Sample]

    def per_minute(self, side: Sequence[Sample], key: str) -> float | None:
        """Return evaluations a minute of ``cpu_s`` or ``wall_s``; None for a side that was not measured."""
        return 60 * len(side) / sum(getattr(sample, key) for sample in side) if side else None

    def difference(self) -> float:
        """Return the largest relative difference of two scores of one candidate."""
        return max(abs(a.value - b.value) / abs(b.value) for a, b in zip(self.ours, self.reference, strict=True))


def by_turns(
    ours: Callable[[np.ndarray], float],
    naive: Callable[[np.ndarray], float] | None,
    candidates: Sequence[np.ndarray],
) -> Alternated:
    """Evaluate all candidates on both sides; without ``naive`` on ours alone."""
    ours_next = iter(partial(ours, each) for each in candidates)
    if naive is None:
        return Alternated([timed(work) for work in ours_next], [])
    naive_next = iter(partial(naive, each) for each in candidates)
    return Alternated(*alternate(lambda: timed(next(ours_next)), lambda: timed(next(naive_next)), len(candidates)))


def preload(bank: Bank, dtype: torch.dtype, limit_bytes: int) -> bool:
    """De-quantize and keep every entry of a bank if all fit in ``limit_bytes``; return whether they do."""
    if len(bank.widths) * sum(x.params for x in bank.linears) * dtype.itemsize > limit_bytes:
        return False
    bank.keep_resident(limit_bytes)
    for x in bank.linears:
        for width in bank.widths:
            bank.dequantize(x.name, width, dtype)
    return True


def measure(args: argparse.Namespace, subject: Subject) -> Piece:
    """Measure whole allocations and single changes, speed and scores."""
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, subject.model_dir)
    key, _ = clock(device.type)
    piece = Piece("benchmarks", detail={"dtype": str(dtype), "device": device.type})
    naive = None if args.shape else Naive(subject, device)
    ours = Ours(subject, dtype, device)
    if device.type == "cpu":
        began = time.process_time()
        piece.detail["resident"] = preload(subject.bank, dtype, args.resident_bytes)
        piece.detail["unpack_bank_cpu_s"] = round(time.process_time() - began, 3)
    whole = list(allocations(subject.bank, args.evals + 1, args.seed))
    base = whole.pop()
    ours(base)  # warm
    cases = {"whole new allocations": by_turns(ours, naive, whole)}
    ours(base)  # the scorer knows it, as it knows an incumbent
    changes = list(single_changes(subject.bank, base, args.evals))
    cases["one linear changed"] = by_turns(ours, naive, changes)
    command = command_line("benchmarks.evaluation", args)
    minute = "processor minute" if key == "cpu_s" else "minute"
    what = f"evaluations of {subject.name}, {subject.windows.numel()} tokens, {str(dtype).removeprefix('torch.')}"
    beside = "; reference: naive float32 loop" if naive else ""
    for case, turns in cases.items():
        piece.keep(case, turns.ours, turns.reference)
        rates = [turns.per_minute(side, key) for side in (turns.ours, turns.reference)]
        piece.rows.append(row(f"{what}, {case}: evaluations a {minute}{beside}", rates[0], rates[1], "evaluations/min",
                              command, "more is better"))  # fmt: skip
        if naive is None:
            continue
        means = [float(np.mean([x.value for x in side])) for side in (turns.ours, turns.reference)]
        apart = turns.difference()
        negation = "" if apart <= EQUAL else "not "
        note = f"mean of {args.evals}; scores differ by at most {apart:.1e} of themselves: {negation}equal to 3 digits"
        piece.rows.append(row(f"{what}, {case}: KL{beside}", means[0], means[1], "nats per token", command, note))
        piece.detail[f"{case}, scores"] = [[x.value for x in side] for side in (turns.ours, turns.reference)]
    return piece


def subject_of(args: argparse.Namespace, scratch: Path) -> Subject:
    """Return the study's model and text, or random ones of a shape; a bank is made where none is given."""
    from ramp.models.token_windows import token_windows

    count = args.tokens // args.length
    if args.shape:
        model_dir, name = scratch / "model", f"random weights of {args.shape}"
        write_checkpoint(model_dir, SHAPES[args.shape], args.seed)
        generator = torch.Generator().manual_seed(args.seed)
        windows = torch.randint(0, SHAPES[args.shape].vocab, (count, args.length), generator=generator)
    else:
        model_dir, name = args.model_dir, args.model_dir.name
        windows = token_windows(ModelFolder(model_dir).tokenizer(), args.text, length=args.length, count=count)
    fold = load_fold(args.fold, ModelFolder(model_dir).config) if args.fold else {}
    if args.bank is None:
        build_bank(
            model_dir, None, scratch / "bank", fold=fold, fold_name="own", quantizer="rtn", widths=args.widths,
            group_size=args.group_size, device=pick_device(args.device),
        )  # fmt: skip
    return Subject(name, model_dir, fold, Bank(args.bank or scratch / "bank"), windows)


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("Evaluations of allocations a minute, beside the naive loop.", repeats=None)
    options.add_argument("--model-dir", type=Path, help="Hugging Face checkpoint folder")
    options.add_argument("--text", type=Path, help="documents to score on, JSON lines")
    options.add_argument("--bank", type=Path, help="bank folder (ramp.bank.bank); default: round to nearest")
    options.add_argument("--fold", type=Path, help="fold file that the bank was made with")
    options.add_argument("--shape", choices=list(SHAPES), help="random weights of this shape, no model, no naive loop")
    options.add_argument("--folder", type=Path, help="where scratch files go; default: the system's")
    options.add_argument("--tokens", type=int, default=2048, help="tokens of an evaluation")
    options.add_argument("--length", type=int, default=128, help="tokens per window")
    options.add_argument("--widths", type=int, nargs="+", default=[3, 4, 5, 6], help="the menu of a bank made here")
    options.add_argument("--group-size", type=int, default=128, help="weights that share one scale, likewise")
    options.add_argument("--evals", type=int, default=6, help="evaluations of each kind and side, by turns")
    options.add_argument("--resident-bytes", type=int, default=4 << 30, help="memory for de-quantized weights")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    options = arguments()
    args = options.parse_args(argv)
    if not args.shape and (args.model_dir is None or args.text is None):
        options.error("give --model-dir and --text, or --shape")
    if args.tokens < args.length or args.evals < 1:
        raise BenchmarkError(f"{args.tokens} tokens hold no window of {args.length}, or nothing is to be evaluated")
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        measure(args, subject_of(args, Path(temporary))).write(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
