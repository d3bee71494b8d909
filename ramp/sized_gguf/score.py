"""GGUF files beside their float model on held-out text: KL, perplexity, and how often both predict the same token.

The files' tensors are de-quantized and run in float32, as every ggml row of the study;
``ramp.export.llamacpp_check`` compares perplexity with llama.cpp's own arithmetic. Both models go through the windows
one decoder block at a time: the comparison comes last, and a machine that made the file has the memory for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from ramp.core.cli import log
from ramp.evaluation.bootstrap import Estimate, mean_kl, paired, perplexity
from ramp.evaluation.heldout import Reference, make_reference
from ramp.gguf_format.reader import streamed_file
from ramp.models.folder import ModelFolder
from ramp.models.streamed_model import StreamedModel
from ramp.scoring.kl_divergence import head_weight, hidden_batches, nll_and_kl, slices

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Windows = list[dict[str, Any]]
"""Per window: ``window``, ``tokens``, ``nll`` and ``kl`` (sums, nats), ``same`` (tokens of equal first choice)."""


def float_reference(model: ModelFolder, windows: Tensor) -> tuple[Reference, Tensor]:
    """Return the float model's reference on windows int64 [count, length], and its output weight [vocab, hidden]."""
    streamed = StreamedModel(model.config, model.reader.get, dtype=torch.float32, device=torch.device("cpu"))
    return make_reference(streamed, windows, {"model": model.name}), head_weight(streamed).detach().clone()


@torch.inference_mode()
def score(model: PreTrainedModel | StreamedModel, reference: Reference, head: Tensor) -> Windows:
    """Return the windows of a model against the reference of the float one, sums in nats.

    head: the float model's output weight [vocab, hidden]. Products are in the dtype of the weights, sums in float64.
    """
    own, found = head_weight(model), []
    for part, hidden in hidden_batches(model, reference.windows, head.device):
        for offset, states in enumerate(hidden):
            index = part.start + offset
            targets = reference.windows[index, 1:]
            sums = np.zeros(3)
            for piece in slices(len(targets), len(head), head.device):
                logits, float_logits = linear(states[piece], own), linear(reference.hidden[index][piece], head)
                nll, kl = nll_and_kl(logits, float_logits, targets[piece])
                same = (logits.argmax(-1) == float_logits.argmax(-1)).sum()
                sums += [float(nll.double().sum()), float(kl.double().sum()), float(same)]
            nll_sum, kl_sum, same_sum = sums.tolist()
            found.append({"window": index, "tokens": len(targets), "nll": nll_sum, "kl": kl_sum, "same": same_sum})
    return found


def score_file(path: Path, model: ModelFolder, reference: Reference, head: Tensor) -> Windows:
    """Return the windows of a GGUF file of ``model``."""
    found = score(streamed_file(model.path, path), reference, head)
    log.info("%s: KL %.4f nats per token on held-out text", path.name, sum_of(found, "kl") / sum_of(found, "tokens"))
    return found


def sum_of(windows: Sequence[Mapping[str, float]], key: str) -> float:
    """Return the sum of a column over windows."""
    return float(sum(window[key] for window in windows))


def reference_windows(reference: Reference) -> Windows:
    """Return the float model's own windows: KL 0."""
    return [
        {"window": index, "tokens": len(nll), "nll": float(nll.double().sum()), "kl": 0.0, "same": float(len(nll))}
        for index, nll in enumerate(reference.nll)
    ]


def kl_of(windows: Windows) -> Estimate:
    """Return the mean KL, nats per token, with its interval over windows."""
    return paired([windows], mean_kl)


def kl_ratio(windows: Windows, other: Windows) -> Estimate:
    """Return the KL of one file over that of another on the same windows, with its interval."""
    return paired([windows, other], lambda one, two: mean_kl(one) / mean_kl(two))


def perplexity_ratio(windows: Windows, reference: Windows) -> Estimate:
    """Return the perplexity over the float model's, with its interval."""
    return paired([windows, reference], lambda one, two: perplexity(one) / perplexity(two))


def agreement(windows: Windows) -> float:
    """Return the share of positions at which both models' most probable token is the same."""
    return sum_of(windows, "same") / sum_of(windows, "tokens")
