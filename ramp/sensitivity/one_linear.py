"""Scores of a model with one linear changed at a time, for the sensitivities that measure the KL.

The folded float model is scored on a few windows of calibration text, again with one linear's weight replaced, and so
on. The score of the unchanged model (rounding of the stored reference, some 1e-7) is taken off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ramp.models.architecture import LinearSpec
from ramp.sensitivity.setting import SensitivityError

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


def log_progress(done: int, of: int) -> None:
    """Log every tenth linear."""
    if done % 10 == 0 or done == of:
        log.info("measured %d of %d linears", done, of)


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
        raise SensitivityError(f"the KL of {linear.name} {what} is {kl}: nothing to compare, use --dtype float32")
    return kl


def from_the_change_on(scorer: PrefixScorer) -> ModelScore:
    """Return a scorer that starts at the block that differs: equal scores, half of the blocks on average."""

    def score(model: PreTrainedModel, change: Change | None) -> Score:
        names: list[Hashable] = ["base"] * scorer.n_blocks  # what all candidates of one kind are made of
        if change is not None:
            names[change.block] = change.name
        return scorer.score(model, names)

    return score
