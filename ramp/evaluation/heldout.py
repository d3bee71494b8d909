"""Evaluate one model on held-out windows against the float reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from ramp.core.cli import log
from ramp.core.tensor_file import save_tensors
from ramp.core.tensors import open_tensors
from ramp.models.folder import ModelFolder
from ramp.models.streamed_model import StreamedModel
from ramp.models.token_windows import check_windows
from ramp.scoring.kl_divergence import (
    EvaluationError,
    head_weight,
    hidden_batches,
    nll_and_kl,
    slices,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


Window = dict[str, Any]
"""Sums of a row over one window: ``window``, ``tokens``, ``nll``, ``kl``."""


@dataclass(frozen=True)
class AboutReference:
    """Fields that the metadata of a reference must have."""

    model: str
    text: str
    dtype: str
    length: int  # tokens per window


@dataclass
class Reference:
    """The float model on the windows of one text."""

    hidden: Tensor  # (windows, length, hidden), after the final norm, in the dtype that it was computed in
    nll: Tensor  # float32 (windows, length - 1)
    windows: Tensor  # int64 (windows, length)
    about: dict[str, Any]  # model, text, text_sha256, dtype, length, requested_length

    def save(self, path: str | Path) -> None:
        """Write the safetensors file; metadata key ``ramp`` is ``about`` as JSON."""
        save_tensors(path, {"hidden": self.hidden, "nll": self.nll, "windows": self.windows}, self.about)

    @classmethod
    def load(cls, path: str | Path) -> Reference:
        """Read a reference; one sentence if the file is not one."""
        again = "run ramp.evaluation reference again"
        with open_tensors(path, "reference of the float model", again=again) as found:
            hidden, nll, windows, about = found["hidden"], found["nll"], found["windows"], found.about
            length = found.about_as(AboutReference).length
        if windows.dim() != 2 or hidden.shape[:-1] != windows.shape or nll.shape != (len(windows), length - 1):
            raise EvaluationError(f"{path} holds tensors that do not fit together: {again}")
        return cls(hidden, nll, windows, about)


@torch.inference_mode()
def make_reference(model: PreTrainedModel | StreamedModel, windows: Tensor, about: Mapping[str, Any]) -> Reference:
    """Run the float model over ``windows``, int64 (windows, length)."""
    windows = check_windows(windows, model.config, least=2)
    head = head_weight(model)
    device, (count, length) = head.device, windows.shape
    hidden = torch.empty(count, length, head.shape[1], dtype=head.dtype)
    nll = torch.empty(count, length - 1, dtype=torch.float32)
    for index, states in _hidden_by_window(model, windows, device):
        hidden[index] = states.cpu()
        targets = windows[index, 1:].to(device)
        for part in slices(length - 1, head.shape[0], device):
            logits = linear(states[part], head).float()  # (slice, vocab)
            nll[index, part] = cross_entropy(logits, targets[part], reduction="none").cpu()
    dtype = str(head.dtype).removeprefix("torch.")
    return Reference(hidden, nll, windows, {**about, "dtype": dtype, "length": length, "windows": count})


def _hidden_by_window(
    model: PreTrainedModel | StreamedModel, windows: Tensor, device: torch.device, batch_tokens: int | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, final hidden states (length, hidden)) of each window, computed in batches."""
    for part, batch in hidden_batches(model, windows, device, batch_tokens):
        for offset, states in enumerate(batch):
            yield part.start + offset, states


@torch.inference_mode()
def evaluate(
    model: PreTrainedModel | StreamedModel, reference: Reference, head: Tensor, batch_tokens: int | None = None
) -> list[Window]:
    """Return per-window sums of a row: ``{"window", "tokens", "nll", "kl"}``, nll and kl in nats.

    head: the float model's output weight (vocab, hidden), in the reference's dtype, on the model's device.
    batch_tokens: forward tokens of a batch, by default the device's.
    """
    device = head.device
    check_windows(reference.windows, model.config, least=2)
    own = head_weight(model)
    if own.shape[0] != head.shape[0]:
        raise EvaluationError(f"the row predicts {own.shape[0]} tokens, the float model {head.shape[0]}")
    found = []
    for index, states in _hidden_by_window(model, reference.windows, device, batch_tokens):
        targets = reference.windows[index, 1:].to(device)
        ref_states = reference.hidden[index].to(device)
        nll_sum = kl_sum = 0.0
        for part in slices(len(targets), head.shape[0], device):
            ref_logits = linear(ref_states[part], head)
            nll, kl = nll_and_kl(linear(states[part], own), ref_logits, targets[part])
            nll_sum += float(nll.double().sum())
            kl_sum += float(kl.double().sum())
        found.append({"window": index, "tokens": len(targets), "nll": nll_sum, "kl": kl_sum})
        log.info("window %d of %d: %.3f nats per token", index + 1, len(reference.windows), nll_sum / len(targets))
    return found


def float_head(model_dir: str | Path, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the float model's output weight (vocab, hidden); the embedding where the checkpoint ties them."""
    model = ModelFolder(model_dir)
    return model.reader.get(model.head_tensor).to(device, dtype)
