"""Sensitivities that change one linear at a time and measure the KL: their setting, scorers and file.

The folded float model is scored on a few windows of calibration text, again with one linear's weight replaced, and so
on. Arithmetic is float32 unless asked otherwise: bfloat16 alone moves the KL by about 1e-3 nats, more than most single
linears do. The score of the unchanged model (rounding of the stored reference, some 1e-7) is taken off.

Files have the form of ``ramp.sensitivity.fisher``: ``proxy`` (the kind), ``tokens`` (cost in forward tokens, every
evaluation counted as one whole pass), ``windows``, ``length``, ``seed``, fields of single kinds, and ``linears``
{name: {width: value}}.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ramp.bank.bank import RESIDENT_BYTES, Bank
from ramp.calibration.folding import folded_float_model, load_fold
from ramp.core import cli
from ramp.core.errors import RampError
from ramp.models.architecture import LinearSpec
from ramp.models.device import pick_device, pick_dtype
from ramp.models.folder import ModelFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ramp.scoring.prefix_cache import PrefixScorer
    from ramp.scoring.score_type import Score


log = logging.getLogger("ramp.sensitivity.one_linear")


class Change(NamedTuple):
    """The difference between a candidate and the model that all candidates of one kind start from."""

    block: int  # the decoder block that differs; all others are that model's
    name: Hashable  # equal names mean equal weights of that block


ModelScore = Callable[["PreTrainedModel", Change | None], "Score"]
"""KL of a model to the float one on fixed windows; the change lets a scorer start at the block that differs."""

Progress = Callable[[int, int], None]
"""(linears done, linears in all)"""


def log_progress(done: int, of: int) -> None:
    """Log every tenth linear."""
    if done % 10 == 0 or done == of:
        log.info("measured %d of %d linears", done, of)


class ProxyError(RampError):
    """A bank of another model or fold, or a measured KL that is not finite."""


def weight_of(model: PreTrainedModel, linear: str) -> nn.Parameter:
    """Return the weight [d_out, d_in] of one linear of the model."""
    return model.get_submodule(linear).weight  # type: ignore[return-value]  # get_submodule is typed as any module


@contextmanager
def restored(weight: nn.Parameter) -> Iterator[None]:
    """Restore the weight, bit for bit, when the block ends."""
    old = weight.detach().clone()
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(old)


@torch.no_grad()
def kl_with(model: PreTrainedModel, score: ModelScore, linear: LinearSpec, values: Tensor, what: str) -> float:
    """Return the KL with one linear's weight replaced by ``values`` [d_out, d_in]; the caller restores it.

    what: a name of these values; equal names for a linear must mean equal values.
    """
    weight_of(model, linear.name).copy_(values)
    kl = score(model, Change(linear.layer, (linear.name, what))).kl
    if not np.isfinite(kl):
        raise ProxyError(f"the KL of {linear.name} {what} is {kl}: nothing to compare, use --dtype float32")
    return kl


def from_the_change_on(scorer: PrefixScorer) -> ModelScore:
    """Return a scorer that starts at the block that differs: equal scores, half of the blocks on average."""

    def score(model: PreTrainedModel, change: Change | None) -> Score:
        names: list[Hashable] = ["base"] * scorer.n_blocks  # what all candidates of one proxy are made of
        if change is not None:
            names[change.block] = change.name
        return scorer.score(model, names)

    return score


def options(
    description: str, text: str = "calibration documents; no search or held-out text"
) -> argparse.ArgumentParser:
    """Return the options that all kinds share; ``text`` describes the text that a kind reads."""
    parser = cli.parser(description)
    parser.add_argument("--model-dir", required=True, help="Hugging Face checkpoint folder")
    parser.add_argument("--bank", required=True, help="bank folder of ramp.bank")
    parser.add_argument("--fold", required=True, help="fold file that the bank was built with")
    parser.add_argument("--text", required=True, help=f"JSON lines: {text}")
    parser.add_argument("--windows", type=int, default=8, help="windows, spread over it")
    parser.add_argument("--length", type=int, default=256, help="tokens per window")
    parser.add_argument("--out", required=True, help="JSON file to write")
    return parser


def by_name(bank: Bank, values: np.ndarray) -> dict[str, dict[str, float]]:
    """Return values [n, w] as sensitivity files hold them: {linear: {width: value}}."""
    return {
        x.name: {str(width): float(value) for width, value in zip(bank.widths, row, strict=True)}
        for x, row in zip(bank.linears, values, strict=True)
    }


@dataclass
class Setting:
    """A bank, the folded float model that it was built from, and the windows of text."""

    bank: Bank
    model: PreTrainedModel
    windows: Tensor  # int64 [count, length]

    @classmethod
    def open(cls, args: argparse.Namespace) -> Setting:
        """Open what the command line names; raise ``ProxyError`` where bank, fold and model do not belong together."""
        from ramp.models.token_windows import token_windows

        folder, bank = ModelFolder(args.model_dir), Bank(args.bank)
        if bank.linears != folder.linears:
            raise ProxyError(f"the bank {args.bank} belongs to another model than {args.model_dir}: pass its own")
        if bank.fold != Path(args.fold).stem:
            raise ProxyError(f"the bank {args.bank} was built with the fold '{bank.fold}', --fold is {args.fold}")
        device = pick_device(args.device)
        dtype = torch.float32 if args.dtype == "auto" else pick_dtype(args.dtype, device)
        model = folded_float_model(args.model_dir, load_fold(args.fold, folder.config), dtype, device)
        windows = token_windows(folder.tokenizer(), args.text, length=args.length, count=args.windows)
        bank.keep_resident(RESIDENT_BYTES)
        return cls(bank, model, windows)

    def scorer(self) -> ModelScore:
        """Return a scorer of the KL to the model in its present state (still float); costs one forward pass."""
        from ramp.scoring.prefix_cache import PrefixScorer

        return from_the_change_on(PrefixScorer(self.model, self.windows))

    def report(self, kind: str, values: np.ndarray, evaluations: int, **about: Any) -> dict[str, Any]:
        """Return the file's content; values [n, w]; the float model's own pass is one more than ``evaluations``."""
        passes = evaluations + 1 if evaluations else 0
        return {
            "proxy": kind,
            "tokens": passes * self.windows.numel(),
            "evaluations": evaluations,
            "windows": self.windows.shape[0] if evaluations else 0,
            "length": self.windows.shape[1],
            **about,
            "linears": by_name(self.bank, values),
        }
