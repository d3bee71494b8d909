"""KL(float || quantized) and negative log-likelihood per token, in float32, over slices of tokens.

The logits of a whole window never exist at once, whatever the vocabulary (49 thousand to 152 thousand here). The
head multiplies slices of some hundred tokens, and on a processor the softmax works through them in tiles that
stay in the second-level cache: half the time of whole slices, measured at 49,152 words on one core.

``nll_and_kl`` is the plain form, used for every reported number. ``Scorer`` is the fast form for searches: the
reference is fixed, so sum p log p is one number per token and a candidate costs a log-sum-exp and a dot
product, KL = sum p log p + logsumexp(z) - sum p z.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear

from ramp.errors import RampError
from ramp.problem import Score

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

CPU_SLICE = 12 << 20
"""Logits per product with the head on a processor: 24 MiB of bfloat16, enough rows to keep its matrix units busy."""

CPU_TILE = 400 << 10
"""Logits per float32 softmax on a processor: 1.6 MiB."""

GPU_SLICE = 1 << 28
"""Logits per product and per softmax on a GPU: 1 GiB of float32."""

BATCH_TOKENS = 2048
"""Forward tokens per batch on a processor; a batch of this size already fills its matrix units."""


class EvaluationError(RampError):
    """Windows, references and models that do not belong together, or a text that is too short."""


def _steps(tokens: int, step: int) -> Iterator[slice]:
    for start in range(0, tokens, max(1, step)):
        yield slice(start, min(start + max(1, step), tokens))


def slices(tokens: int, vocab: int, device: torch.device) -> Iterator[slice]:
    """Slices of 0..tokens for products with the head; at least one token each."""
    return _steps(tokens, (CPU_SLICE if device.type == "cpu" else GPU_SLICE) // vocab)


def tiles(tokens: int, vocab: int, device: torch.device) -> Iterator[slice]:
    """Slices of 0..tokens for float32 softmaxes; at least one token each."""
    return _steps(tokens, (CPU_TILE if device.type == "cpu" else GPU_SLICE) // vocab)


def nll_and_kl(logits: Tensor, ref_logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Per-token negative log-likelihood of ``targets`` and KL(reference || model), in nats.

    logits, ref_logits: (tokens, vocab), any float dtype. targets: int64 (tokens,). Returns float32 (tokens,)
    twice. Uses sum p (log p - log q), term by term, so that identical logits give exactly 0.
    """
    nll = torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
    kl = torch.empty_like(nll)
    tokens, vocab = logits.shape
    for part in tiles(tokens, vocab, logits.device):
        log_q = torch.log_softmax(logits[part].float(), dim=-1)  # (tile, vocab)
        nll[part] = -log_q.gather(1, targets[part, None])[:, 0]
        log_p = torch.log_softmax(ref_logits[part].float(), dim=-1)
        p = log_p.exp()
        kl[part] = (p * (log_p - log_q).masked_fill(p == 0, 0)).sum(-1)  # 0 (log 0 - log q) = 0, Cover and Thomas
    return nll, kl


def final_hidden(model: PreTrainedModel, windows: Tensor) -> Tensor:
    """Hidden states after the final norm, (windows, length, hidden): what the output head reads."""
    return model.base_model(input_ids=windows, use_cache=False).last_hidden_state


def batches(windows: Tensor, device: torch.device) -> Iterator[slice]:
    """Slices of windows of about BATCH_TOKENS forward tokens on a processor, eight times that on a GPU."""
    tokens = BATCH_TOKENS if device.type == "cpu" else 8 * BATCH_TOKENS
    step = max(1, tokens // windows.shape[1])
    for start in range(0, windows.shape[0], step):
        yield slice(start, min(start + step, windows.shape[0]))


def head_weight(model: PreTrainedModel) -> Tensor:
    """The output head (vocab, hidden); the families of ``ramp.models`` have no bias there and nothing after it."""
    head = cast("nn.Linear", model.get_output_embeddings())
    if head.bias is not None:
        raise EvaluationError(
            f"the output head of this {model.config.model_type} model has a bias, which is not scored"
        )
    return head.weight


class Scorer:
    """KL and NLL of candidates against one fixed float model on fixed windows.

    Holds, per scored token, the float model's probabilities in bfloat16 and one number, sum p log p of those
    very rounded, renormalised probabilities: the score is an exact KL for a reference that differs from the
    float model's by bfloat16 rounding of p, which is unbiased, and moves the mean KL by less than 1e-3 of
    itself (tests/unit/test_divergence.py measures it against float64).

    Memory: windows * (length - 1) * vocab * 2 bytes on the model's device (200 MB for 2,048 tokens of SmolLM2).
    """

    nll_float: float
    """The float model's own mean negative log-likelihood on the windows, nats per token."""

    @torch.inference_mode()
    def __init__(self, float_model: PreTrainedModel, windows: Tensor) -> None:
        """Run the float model once over ``windows``, int64 (windows, length)."""
        self.device = next(float_model.parameters()).device
        self.windows = check_windows(windows, float_model.config).to(self.device)
        count, length = self.windows.shape
        head = head_weight(float_model)
        vocab = head.shape[0]
        scored = count * (length - 1)
        self.targets = self.windows[:, 1:].reshape(-1)  # (tokens,)
        self.p = torch.empty(scored, vocab, dtype=torch.bfloat16, device=self.device)
        self.mass = torch.empty(scored, dtype=torch.float32, device=self.device)  # sum of the rounded p
        self.negentropy = torch.empty_like(self.mass)  # sum p log p of the renormalised p
        nll = torch.empty_like(self.mass)
        for rows, logits in self._logits(float_model):
            log_p = torch.log_softmax(logits.float(), dim=-1)  # (tile, vocab)
            nll[rows] = -log_p.gather(1, self.targets[rows, None])[:, 0]
            self.p[rows] = log_p.exp()
            p = self.p[rows].float()
            mass = p.sum(-1)
            self.mass[rows] = mass
            self.negentropy[rows] = torch.special.entr(p).sum(-1).neg() / mass - mass.log()
        self.nll_float = float(nll.double().mean())
        if not torch.isfinite(nll).all():
            raise EvaluationError("the float model gives logits that are not finite on the search windows")

    def _logits(self, model: PreTrainedModel) -> Iterator[tuple[slice, Tensor]]:
        """(which scored tokens, their logits (tile, vocab) in the model's dtype), tile by tile."""
        head = head_weight(model)
        vocab, per_window = self.p.shape[1], self.windows.shape[1] - 1
        for part in batches(self.windows, self.device):
            hidden = final_hidden(model, self.windows[part])[:, :-1]  # the last position predicts nothing
            hidden = hidden.reshape(-1, hidden.shape[-1])  # (tokens, hidden)
            for piece in slices(len(hidden), vocab, self.device):
                logits = linear(hidden[piece], head)  # (slice, vocab)
                first = part.start * per_window + piece.start
                for tile in tiles(len(logits), vocab, self.device):
                    yield slice(first + tile.start, first + tile.stop), logits[tile]

    @torch.inference_mode()
    def score(self, model: PreTrainedModel) -> Score:
        """Mean KL(float || model) and NLL over the scored positions; ``tokens`` are forward tokens."""
        kl = torch.empty_like(self.mass)
        nll = torch.empty_like(self.mass)
        for rows, logits in self._logits(model):
            z = logits.float()  # (tile, vocab)
            z -= z.amax(-1, keepdim=True)  # in place, and no tile is read twice: log-sum-exp without a second table
            expected = torch.linalg.vecdot(self.p[rows].float(), z) / self.mass[rows]  # sum p z
            at_target = z.gather(1, self.targets[rows, None])[:, 0]
            log_sum = z.exp_().sum(-1).log()
            kl[rows] = self.negentropy[rows] + log_sum - expected
            nll[rows] = log_sum - at_target
        mean_nll = float(nll.double().mean())
        return Score(
            kl=float(kl.double().mean()),
            ppl=float(torch.tensor(mean_nll, dtype=torch.float64).exp()),
            nll=mean_nll,
            tokens=self.windows.numel(),
        )


def check_windows(windows: Tensor, config: Any) -> Tensor:
    """Return ``windows`` if they are int64 (windows, length >= 2) within the model's context and vocabulary."""
    if windows.dim() != 2 or windows.numel() == 0 or windows.shape[1] < 2:
        raise EvaluationError(
            f"windows of shape {tuple(windows.shape)} cannot be scored: give (windows, length), lengths of at least 2"
        )
    context = int(config.max_position_embeddings)
    if windows.shape[1] > context:
        raise EvaluationError(
            f"windows of {windows.shape[1]} tokens exceed the model's context of {context}: shorten the windows"
        )
    if int(windows.max()) >= int(config.vocab_size) or int(windows.min()) < 0:
        raise EvaluationError(
            f"token {int(windows.max())} is outside the model's vocabulary of {config.vocab_size}: "
            "use the tokenizer of this model"
        )
    return windows
