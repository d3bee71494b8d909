"""Times and memory of a 7B's stages on the card at hand beside the plan's, in eight minutes; nothing is downloaded.

    python -m benchmarks.on_card --out results/compared/on_card.json

Stages run as ``config/paper.yaml`` asks for them: calibration, bank, a row of GPTQ at 4 bits and AWQ's search on one
decoder block of Llama-2-7B's shape; evaluations of a search, of a row, and tasks on all blocks. Weights and tokens are
random (``benchmarks.alike_blocks``). Beside each figure stands that of ``ramp.plan`` for the same work on this device,
without the start of a process; ratio: measured / planned. Memory of the card is what torch gave out, planned without
the driver's; memory of the host is the process's own, mapped files aside.

The file is written after every figure. ``--shape small --device cpu`` rehearses the same code on tiny sizes.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.alike_blocks import AlikeBlocks, BankOfAlikeBlocks
from benchmarks.evaluation import allocations, synchronize
from benchmarks.measure import BenchmarkError, Piece, clock, command_line, parser, peak_bytes, row, timed
from benchmarks.memory import AnonymousPeak
from benchmarks.shapes import LLAMA_7B, BlockShape
from ramp.bank import __main__ as bank
from ramp.calibration import __main__ as calibration
from ramp.calibration import fold_search
from ramp.core import cli
from ramp.core.cli import log
from ramp.core.provenance import hardware, peak_gpu_bytes
from ramp.evaluation.heldout import evaluate, make_reference
from ramp.evaluation.lm_eval_tasks import answers_at_once, score_tasks
from ramp.models.architecture import list_linears
from ramp.models.device import pick_device, pick_dtype
from ramp.models.token_windows import Document, write_documents
from ramp.plan import evaluation_costs, search_costs
from ramp.plan.__main__ import chosen_device
from ramp.plan.job_costs import JobCosts
from ramp.plan.quantities import Facts
from ramp.plan.work import CONTEXT_BYTES, Work, cost
from ramp.rows import quantize
from ramp.scoring.kl_divergence import head_weight
from ramp.scoring.prefix_cache import PrefixScorer, block_names
from ramp.search.device_budget import share_device
from ramp.study.model_shape import ModelShape
from ramp.study.study_file import PROJECT, configuration, study_plan

SMALL = BlockShape(hidden=256, intermediate=640, heads=4, kv_heads=4, layers=8, vocab=4096)
PAPER = [PROJECT / "config" / "paper.yaml"]
REHEARSAL = [*PAPER, PROJECT / "config" / "rehearsal.yaml"]
TASK = {"tasks": {"names": ["piqa"]}}
LESS = {"depths": {"full": {"windows": 16, "task_limit": 1000}}}
"""Windows of each text and rows of the task; a study scores all."""

SHAPES: dict[str, tuple[BlockShape, list[Path], dict[str, Any]]] = {
    "7B": (LLAMA_7B, PAPER, {**TASK, **LESS}),
    "small": (SMALL, REHEARSAL, TASK),
}
"""Name -> shape, files of the study whose sizes hold, and keys laid over them."""

CANDIDATES = 6
"""Evaluations of each kind."""


class OnCard:
    """The measurement on one device: a model, the study's plan for it, and the piece that grows."""

    def __init__(self, args: argparse.Namespace, scratch: Path) -> None:
        self.began, self.args, self.scratch = time.monotonic(), args, scratch
        shape, files, keys = SHAPES[args.shape]
        self.device, self.random = pick_device(args.device), AlikeBlocks(scratch / "model", shape, args.seed)
        plan = study_plan(configuration(files, keys))
        self.source, self.study = plan.study.source, plan.study
        one = ModelShape.read(self.random.folder.config.to_dict(), "the random model")
        self.block = Facts(plan, {self.source: one})
        self.whole = Facts(plan, {self.source: replace(one, num_hidden_layers=shape.layers)})
        self.costs = JobCosts.on(self.block, chosen_device(None, args.device))
        self.where = f"{args.shape} shape, random weights, on {hardware(str(self.device))}"
        self.piece = Piece("benchmarks", detail={"planned for": self.costs.device.name, "skipped": [], "failed": {}})

    def measure(
        self, what: str, work: Work, run: Callable[[], Any], *, times: int = 1, rate: tuple[float, str] | None = None,
        holding: Work | None = None,
    ) -> Any:  # fmt: skip
        """Run once, add figures of time and memory, and return what ``run`` gave.

        times: how often ``run`` does ``work``; rate: amount and its name, where a rate is told; holding: the work whose
        memory is planned, where it is another.
        """
        gc.collect()  # what an earlier part held, before the peak is counted anew
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

        def whole() -> Any:
            found = run()
            synchronize(self.device)
            return found

        with AnonymousPeak() as watch:
            sample = timed(whole)
        key, unit = clock(self.device.type)
        device, core = self.costs.device, self.costs.core
        figures = getattr(sample, key), times * cost(replace(work, fixed_s=0.0), device, core).seconds
        if rate:
            figures, unit = (rate[0] / figures[0], rate[0] / figures[1]), f"{rate[1]}/{unit}"
        self.add(what, *figures, unit)
        needed = cost(holding or work, device, core)
        if (peak := peak_gpu_bytes(self.device)) is not None:
            self.add(f"{what}: peak memory of the card", peak, needed.device_bytes - CONTEXT_BYTES, "bytes")
        host = max(watch.peak, peak_bytes("RssAnon"))
        self.add(f"{what}: peak memory of the host", host, needed.host_bytes, "bytes")
        return sample.value

    def add(self, what: str, measured: float, planned: float, unit: str) -> None:
        """Add a row, print it, and write the file."""
        real = self.args.shape == "7B"
        note = "random weights, all blocks alike" if real else "a rehearsal on tiny sizes, no result of a 7B"
        name, command = f"{self.where}: {what}; reference: the plan", command_line("benchmarks.on_card", self.args)
        self.piece.rows.append(row(name, measured, planned, unit, command, note))
        print(f"{what}: {measured:.4g} {unit}, planned {planned:.4g}, planned / measured {planned / measured:.2f}")
        self.piece.write(self.args.out)

    # --- one block, by the stages' own commands ----------------------------------------------------------------------

    def options(self, tokens: int, *words: Any) -> list[str]:
        """Return the command line of a stage that calibrates on so many tokens."""
        common = ["--model-dir", self.random.folder.path, "--text", self.scratch / "text.jsonl", "--tokens", tokens]
        common += ["--length", self.block.calibration(self.source)[1]]
        return [str(x) for x in (*common, "--device", self.args.device, "--threads", self.args.threads, *words)]

    def stage(self, what: str, rule: str, main: Callable[..., Any], words: Sequence[Any], **wildcards: str) -> None:
        """Measure a stage; its own options are ``words``, the wildcards of the plan's rule the others."""
        tokens, _ = self.block.calibration(self.source)
        work = self.costs.work(rule, {"model": self.source, **wildcards})
        if rule == "calibration":
            work = replace(work, core_s=0.0)  # this checkpoint has no checksum to compare
        self.measure(f"{what} of one block, {tokens} tokens", work, partial(main, self.options(tokens, *words)))

    def calibrated(self) -> None:
        """Ranges of all sites; before it, libraries and the card are started on one window."""
        tokens, length = self.block.calibration(self.source)
        write_documents(self.scratch / "text.jsonl", [Document("random", self.random.words(tokens))])
        out = "--out", self.scratch / "calibration.safetensors"
        calibration.main(self.options(length, *out))
        fold_search.main(self.options(length, "--kind", "none", "--out", self.scratch / "none.safetensors"))
        self.stage("calibration", "calibration", calibration.main, out)

    def banked(self) -> None:
        """Every linear at every width by GPTQ."""
        widths, groups = self.study.widths, self.study.group_size
        words = ["--fold", self.scratch / "none.safetensors", "--group-size", groups, "--widths", *widths]
        what = f"bank at {len(widths)} widths"
        self.stage(what, "bank", bank.main, [*words, "--out", self.scratch / "bank"], fold="none", quantizer="gptq")

    def row(self) -> None:
        """A row of GPTQ at 4 bits, packed."""
        words = ["--fold", self.scratch / "none.safetensors", "--group-size", self.study.group_size, "--bits", 4]
        words += ["--track", self.study.track, "--method-file", PROJECT / "baselines" / "gptq.py"]
        words += ["--out", self.scratch / "row"]
        self.stage("GPTQ at 4 bits", "quantize", quantize.main, words, method="gptq", budget="4")

    def awq(self) -> None:
        """AWQ's search of scales."""
        words = [*self.study.folds["awq"].options(), "--group-size", self.study.group_size]
        self.stage("AWQ's search", "fold", fold_search.main, [*words, "--out", self.scratch / "awq"], fold="awq")

    # --- all blocks --------------------------------------------------------------------------------------------------

    @cached_property
    def model(self) -> Any:
        """The model of all blocks, in the study's dtype."""
        return self.random.whole(pick_dtype(self.study.dtype, self.random.folder.path), self.device)

    def candidates(self) -> None:
        """Candidates of a search with all that it keeps on the device: whole new ones, and such as the plan expects."""
        facts, shape = self.whole, self.whole.shape(self.source)
        tokens, selection, length = facts.search()
        entries = BankOfAlikeBlocks(self.scratch / "bank", list_linears(self.model.config))
        limit = None if self.device.type == "cpu" else 0
        texts = [self.random.windows(count, length) for count in (tokens, selection)]
        scorer, final = (PrefixScorer(self.model, text, limit) for text in texts)
        share_device(self.model, entries, scorer, final)

        def score(choices: Sequence[np.ndarray], by: PrefixScorer = scorer) -> None:
            for choice in choices:
                entries.assemble(self.model, choice)
                by.score(self.model, block_names(entries.linears, choice))

        base, *drawn = allocations(entries, 2 * CANDIDATES + 1, self.args.seed)
        score([np.full_like(base, index) for index in range(len(entries.widths))])  # every entry crosses to the card
        score(drawn[:2], final)
        blocks = shape.num_hidden_layers
        kept = blocks - round(search_costs.CHANGED * blocks)
        early = np.array([x.layer < kept for x in entries.linears])
        changed = [np.where(early, base, each) for each in drawn[CANDIDATES:]]
        holding = search_costs.search(facts, self.source, "ramp", "3.65", "0")
        for what, first, choices in (("whole new", 0, drawn[:CANDIDATES]), (f"from block {kept} on", kept, changed)):
            score([base])
            before = scorer.computed_blocks
            work = search_costs.evaluation(facts, shape, tokens, length, share=1 - first / blocks)
            self.measure(
                f"candidates of {tokens} tokens, {what}, assembled and scored", replace(work, uses_gpu=True),
                partial(score, choices), times=CANDIDATES, rate=(CANDIDATES, "evaluations"), holding=holding,
            )  # fmt: skip
            self.piece.detail[f"blocks run, {what}"] = scorer.computed_blocks - before

    def evaluation(self) -> None:
        """The reference of some windows, and a row on them."""
        facts, shape = self.whole, self.whole.shape(self.source)
        tokens, length = facts.evaluated(self.source)
        windows, states = self.random.windows(tokens, length), tokens * shape.hidden_size * facts.half_bytes(shape)
        one, two = (
            replace(evaluation_costs.scored(facts, shape, tokens, length, n), host_bytes=states) for n in (1, 2)
        )
        rate, head = (tokens, "tokens"), head_weight(self.model)
        reference = partial(make_reference, self.model, windows, {})
        made = self.measure(f"reference of {tokens} tokens", one, reference, rate=rate)
        self.measure(
            f"evaluation of a row on {tokens} tokens", two, partial(evaluate, self.model, made, head), rate=rate
        )

    def tasks(self) -> None:
        """Requests of a task, with as many tokens as the plan counts; lm-eval is loaded before."""
        requests, tokens = self.whole.tasks()
        each = {"goal": tokens // requests - 12, "sol1": 8, "sol2": 8}  # "Question:" and "Answer:" are four more
        rows = [{key: self.random.words(n) for key, n in each.items()} | {"label": 0} for _ in range(requests // 2)]
        file = self.scratch / "piqa.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        batch = self.study.tasks.batch or answers_at_once(self.model.config, self.device)
        score = partial(score_tasks, self.model, self.random.folder.tokenizer(), {"piqa": file}, batch_size=batch)
        score(limit=1)
        work = evaluation_costs.tasks_scored(self.whole, self.source, "gptq-b4-s0")
        work = replace(work, core_s=evaluation_costs.REQUEST_S * requests, disk=0.0)  # the model and lm-eval are there
        what = f"tasks, {requests} requests of {tokens // requests} tokens, {batch} at once"
        self.measure(what, work, partial(score, limit=None), rate=(requests, "requests"))

    def run(self) -> None:
        """Run part after part, none once the time is over; a part that fails does not take the others along."""
        for part in (self.calibrated, self.banked, self.row, self.awq, self.candidates, self.evaluation, self.tasks):
            if time.monotonic() - self.began >= 60 * self.args.minutes:
                log.warning("skipped, %g minutes are over: %s", self.args.minutes, part.__name__)
                self.piece.detail["skipped"].append(part.__name__)
                continue
            try:
                part()
            except Exception as error:  # the card is lent for minutes: what else it does is worth knowing
                log.exception("failed: %s", part.__name__)
                self.piece.detail["failed"][part.__name__] = f"{type(error).__name__}: {error}"
        self.piece.write(self.args.out)
        if failed := self.piece.detail["failed"]:
            raise BenchmarkError(f"{', '.join(failed)} failed, all other figures are in {self.args.out}")


def arguments() -> argparse.ArgumentParser:
    """Return the module's options."""
    options = parser("A 7B's stages on the card at hand, beside the plan.", repeats=None)
    options.set_defaults(device="cuda")
    options.add_argument("--shape", choices=list(SHAPES), default="7B", help="small: a rehearsal on a processor")
    options.add_argument("--minutes", type=float, default=8, help="no part starts after so many")
    options.add_argument("--folder", type=Path, help="where 3 GB of scratch files go; default: the system's")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    args = arguments().parse_args(argv)
    if args.shape == "7B" and (args.device == "cpu" or not torch.cuda.is_available()):
        raise BenchmarkError("a 7B is measured on a GPU, and there is none: rehearse with --shape small --device cpu")
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        OnCard(args, Path(temporary)).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
