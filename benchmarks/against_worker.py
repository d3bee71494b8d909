"""Runs inside one checkout for ``benchmarks.against``: imports that checkout's ``ramp``, nothing else of the project.

The first JSON line on standard input names model, text and sizes. Every further one is a stage; the answer is
[processor seconds, seconds, digest of the result].
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

STAGES = ("reference", "row", "candidate", "calibration", "fold", "bank", "sensitivity")


class Stages:
    """A model and text, and the stages on them: a method each, which returns what it computed."""

    def __init__(self, model_dir: str, text: str, tokens: int, group_size: int) -> None:
        import torch

        from ramp.models.folder import ModelFolder

        self.torch, self.device = torch, torch.device("cpu")
        self.model_dir, self.group_size = Path(model_dir), group_size
        folder = ModelFolder(self.model_dir)
        longest = min(tokens, int(folder.config.max_position_embeddings))
        tokenizer = folder.tokenizer()
        from ramp.models.token_windows import token_windows

        def windows(length: int) -> Any:
            length = min(length, longest)
            return token_windows(tokenizer, text, length=length, count=tokens // length)

        self.long, self.middle, self.short = windows(2048), windows(512), windows(128)
        self.scratch = tempfile.TemporaryDirectory()

    @cached_property
    def model(self) -> Any:
        """The float model."""
        from ramp.calibration.folding import folded_float_model

        return folded_float_model(self.model_dir, {})

    @cached_property
    def made_reference(self) -> Any:
        """The reference of the row."""
        from ramp.evaluation.heldout import make_reference

        return make_reference(self.model, self.long, {})

    @cached_property
    def scorer(self) -> Any:
        """The scorer of candidates."""
        from ramp.scoring.prefix_cache import PrefixScorer

        return PrefixScorer(self.model, self.short)

    def reference(self) -> Any:
        """Score the float model on long windows."""
        self.__dict__.pop("made_reference", None)
        return self.made_reference.nll.tolist()

    def row(self) -> Any:
        """Score a row beside the float model; here it is that model."""
        from ramp.evaluation.heldout import evaluate
        from ramp.scoring.kl_divergence import head_weight

        return evaluate(self.model, self.made_reference, head_weight(self.model))

    def candidate(self) -> Any:
        """Score a whole new allocation, without its assembling."""
        return tuple(self.scorer.score(self.model))

    def calibration(self) -> Any:
        """Collect activation statistics."""
        from ramp.calibration.__main__ import measure

        found = measure(self.model_dir, self.middle, device="cpu")
        return {site: stats.sqmean.tolist() for site, stats in found.items()}

    def fold(self) -> Any:
        """Run AWQ's search."""
        from ramp.calibration.fold_search import FoldSearch, search_folds

        search = FoldSearch("awq", [3, 4], self.group_size, max_rows=128)
        scales, errors = search_folds(self.model_dir, self.middle, search, device="cpu")
        return errors, {site: s.tolist() for site, s in scales.items()}

    def bank(self) -> Any:
        """Quantize every linear at two widths by GPTQ."""
        from ramp.bank.build import build_bank

        out = Path(self.scratch.name) / "bank"
        build_bank(
            self.model_dir, self.middle, out, fold={}, fold_name="none", quantizer="gptq", widths=[3, 4],
            group_size=self.group_size, device="cpu",
        )  # fmt: skip
        return hashlib.sha256((out / "bank.safetensors").read_bytes()).hexdigest()

    def sensitivity(self) -> Any:
        """Compute Fisher sensitivities on the bank."""
        from ramp.bank.bank import Bank
        from ramp.calibration.stream import block_runner
        from ramp.models.folder import ModelFolder
        from ramp.sensitivity.fisher import fisher_proxy

        out = Path(self.scratch.name) / "bank"
        if not out.exists():
            self.bank()
        runner = block_runner(ModelFolder(self.model_dir), self.short.shape[1], device="cpu")
        return fisher_proxy(runner, Bank(out), self.short).tolist()


def ready(stages: Stages, stage: str) -> None:
    """Make what a stage starts from, outside its time."""
    if stage == "row":
        stages.made_reference  # noqa: B018
    elif stage == "candidate":
        stages.scorer  # noqa: B018
    elif stage == "sensitivity" and not (Path(stages.scratch.name) / "bank").exists():
        stages.bank()


def timed(work: Callable[[], Any]) -> tuple[float, float, str]:
    """Return processor seconds, seconds and the digest of a result."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    found = work()
    spent = time.process_time() - cpu, time.perf_counter() - wall
    return *spent, hashlib.sha256(json.dumps(found).encode()).hexdigest()


def main(stream: TextIO, out: TextIO) -> None:
    """Answer until the input ends."""
    from ramp.core import arithmetic

    with contextlib.suppress(ImportError):  # younger than some checkouts
        from ramp.core import freed_memory

        freed_memory.keep()
    with contextlib.redirect_stdout(sys.stderr):
        arithmetic.enable(1)
        stages = Stages(**json.loads(next(stream)))
        out.write("null\n")
        out.flush()
        for line in stream:
            stage = json.loads(line)
            ready(stages, stage)
            out.write(json.dumps(timed(getattr(stages, stage))) + "\n")
            out.flush()


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
