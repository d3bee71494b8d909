"""KL(float || quantized) and negative log-likelihood per token, in float32, over slices of tokens.

The logits of a whole window never exist at once, whatever the vocabulary (49 to 152 thousand in this suite). The head
multiplies slices of some hundred tokens, and on a processor the softmax works through them in tiles that stay in the
second-level cache: half the time of whole slices, measured at 49,152 words on one core.

``nll_and_kl`` is the plain form, used for every reported number. ``Scorer`` is the fast form for searches: the
reference and the head are fixed, so a candidate costs a log-sum-exp over the vocabulary and a dot product of the
hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.functional import linear

from ramp.core.errors import RampError
from ramp.models.streamed_model import StreamedModel
from ramp.models.token_windows import check_windows
from ramp.scoring.score_type import Score

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

GPU_BATCHES = 8
"""Such batches that a GPU takes at once."""


class EvaluationError(RampError):
    """References, models and scores that do not belong together."""


def _steps(count: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def slices(tokens: int, vocab: int, device: torch.device) -> Iterator[slice]:
    """Return slices of 0..tokens for products with the head; at least one token each."""
    return _steps(tokens, (CPU_SLICE if device.type == "cpu" else GPU_SLICE) // vocab)


def tiles(tokens: int, vocab: int, device: torch.device) -> Iterator[slice]:
    """Return slices of 0..tokens for float32 softmaxes; at least one token each."""
    return _steps(tokens, (CPU_TILE if device.type == "cpu" else GPU_SLICE) // vocab)


def nll_and_kl(logits: Tensor, ref_logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return per-token negative log-likelihood of ``targets`` and KL(reference || model), in nats.

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
    """Return the hidden states after the final norm, the input of the output head: (windows, length, hidden)."""
    return model.base_model(input_ids=windows, use_cache=False).last_hidden_state


def batches(windows: Tensor, device: torch.device, tokens: int | None = None) -> Iterator[slice]:
    """Return slices of windows of about so many forward tokens.

    tokens: by default BATCH_TOKENS on a processor, GPU_BATCHES times that on a GPU.
    """
    if tokens is None:
        tokens = BATCH_TOKENS if device.type == "cpu" else GPU_BATCHES * BATCH_TOKENS
    return _steps(len(windows), tokens // windows.shape[1])


def hidden_batches(
    model: PreTrainedModel | StreamedModel, windows: Tensor, device: torch.device, batch_tokens: int | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Yield the hidden states after the final norm (batch, length, hidden) of each batch of windows."""
    parts = batches(windows, device, batch_tokens)
    if isinstance(model, StreamedModel):
        yield from model.hidden_batches(windows, parts)
        return
    for part in parts:
        yield part, final_hidden(model, windows[part].to(device))


def head_weight(model: PreTrainedModel | StreamedModel) -> Tensor:
    """Return the output head (vocab, hidden), which has no bias and nothing after it in the supported families."""
    if isinstance(model, StreamedModel):
        return model.head
    head = cast("nn.Linear", model.get_output_embeddings())
    if head.bias is not None:
        raise EvaluationError(
            f"the output head of this {model.config.model_type} model has a bias, which is not scored"
        )
    return head.weight


class Scorer:
    """A scorer of candidates on fixed windows: their KL to one float model, and their NLL.

    Candidates differ in the linears of the blocks; embedding and head are the float model's own. So sum p z over the
    vocabulary, p the float model's probabilities and z = W h a candidate's logits, is the dot product of h with
    E[W] = sum p W, one row of the hidden size per token, computed once. The rest is the growth of the log-sum-exp,

        KL = (logsumexp z - logsumexp z_float) - (h - h_float) E[W],

    in one of two forms. In float32 and wider the logits are exact enough: ``logsumexp`` of them, no table is kept. In
    bfloat16 a logit of 20 is rounded by up to 0.06, which is more than what is measured, and the head multiplies
    h - h_float instead, whose products d are small and rounded in proportion: the growth is log E[exp d]. That form
    holds p in bfloat16, renormalised: an exact KL for a reference that differs from the float model's by rounding of
    p, which is unbiased (tests/unit/test_kl_divergence.py measures both forms against float64).

    Memory on the model's device: tokens * (hidden * 8 + vocab * 2) bytes in bfloat16 (208 MB for 2,048 tokens of
    SmolLM2), without the second term in float32.
    """

    nll_float: float
    """The float model's own mean negative log-likelihood on the windows, nats per token."""

    @torch.inference_mode()
    def __init__(self, float_model: PreTrainedModel | StreamedModel, windows: Tensor) -> None:
        """Run the float model once over ``windows``, int64 (windows, length)."""
        self.head = head_weight(float_model)
        self.device = self.head.device
        self.windows = check_windows(windows, float_model.config, least=2).to(self.device)
        self.wide = torch.promote_types(self.head.dtype, torch.float32)  # what sums and references are held in
        self.by_difference = self.head.dtype != self.wide
        size = self.head.shape[1]
        scored = self.windows.shape[0] * (self.windows.shape[1] - 1)
        self.hidden = torch.empty(scored, size, dtype=self.head.dtype, device=self.device)  # of the float model
        self.mean_row = torch.empty(scored, size, dtype=self.wide, device=self.device)  # E[W]
        self.log_sum = torch.empty(scored, dtype=self.wide, device=self.device)  # logsumexp of the float logits
        self.nll = torch.empty_like(self.log_sum)
        self.targets = self.windows[:, 1:].reshape(-1)  # (tokens,)
        for rows, hidden in self._scored_tokens(self._hidden_batches(float_model)):
            self.hidden[rows] = hidden
        if self.by_difference:
            self.p = torch.empty(scored, len(self.head), dtype=torch.bfloat16, device=self.device)
            self.mass = torch.empty_like(self.log_sum)  # sum of the rounded p
        head = self.head.to(self.wide)
        for part in slices(scored, len(head), self.device):
            logits = linear(self.hidden[part].to(self.wide), head)  # (slice, vocab)
            log_sum = torch.logsumexp(logits, dim=-1)
            self.log_sum[part] = log_sum
            self.nll[part] = log_sum - logits.gather(1, self.targets[part, None])[:, 0]
            self.mean_row[part] = self._describe(part, logits.sub_(log_sum[:, None]).exp_(), head) @ head
        self.nll_float = float(self.nll.double().mean())
        if not torch.isfinite(self.nll).all():
            raise EvaluationError("the float model gives logits that are not finite on the search windows")

    def _describe(self, part: slice, p: Tensor, head: Tensor) -> Tensor:
        """Keep what ``_growth`` needs of the float model's probabilities p (slice, vocab); return p for E[W].

        p and the head (vocab, hidden) are in ``wide``; p may be overwritten.
        """
        if not self.by_difference:
            return p
        self.p[part] = p
        p = self.p[part].to(self.wide)
        self.mass[part] = p.sum(-1)
        return p.div_(self.mass[part, None])

    def _hidden_batches(self, model: PreTrainedModel | StreamedModel) -> Iterator[tuple[slice, Tensor]]:
        """Yield the hidden states after the final norm of each batch of windows, (batch, length, hidden)."""
        return hidden_batches(model, self.windows, self.device)

    def _scored_tokens(self, found: Iterable[tuple[slice, Tensor]]) -> Iterator[tuple[slice, Tensor]]:
        """Yield scored tokens (a slice) and their final hidden states (tokens, hidden), batch by batch."""
        per_window = self.windows.shape[1] - 1
        for part, states in found:
            hidden = states[:, :-1]  # the last position predicts nothing
            yield slice(part.start * per_window, part.stop * per_window), hidden.reshape(-1, hidden.shape[-1])

    def _growth(self, hidden: Tensor, first: int) -> Tensor:
        """Return logsumexp z - logsumexp z_float of tokens ``first`` and on: (tokens,) in ``wide``."""
        grown = torch.empty(len(hidden), dtype=self.wide, device=self.device)
        vocab = len(self.head)
        read = hidden - self.hidden[first : first + len(hidden)] if self.by_difference else hidden
        room = torch.empty(0, dtype=self.wide, device=self.device)
        for piece in slices(len(read), vocab, self.device):
            products = linear(read[piece], self.head)  # (slice, vocab): d or z
            for tile in tiles(len(products), vocab, self.device):
                count, start = tile.stop - tile.start, piece.start + tile.start
                rows = slice(first + start, first + start + count)
                if self.by_difference:
                    if len(room) < 2 * count:
                        room = torch.empty(2 * count, vocab, dtype=self.wide, device=self.device)
                    found = self._log_mean_exp(products[tile], rows, room)
                else:
                    found = log_sum_exp_(products[tile]) - self.log_sum[rows]
                grown[start : start + count] = found
        return grown

    def _log_mean_exp(self, products: Tensor, rows: slice, room: Tensor) -> Tensor:
        """Return log E[exp d] of a tile of d (tile, vocab); ``exp`` is shifted only where it leaves float32's range.

        room: (at least 2 * tile, vocab) in ``wide``, written again for each tile: allocating costs more than filling.
        """
        count = len(products)
        d, p = room[:count].copy_(products), room[count : 2 * count].copy_(self.p[rows])
        found = (torch.linalg.vecdot(p, d.exp_()) / self.mass[rows]).log()
        if not bool(torch.isfinite(found).all()):
            top = d.copy_(products).amax(-1, keepdim=True)
            found = (torch.linalg.vecdot(p, d.sub_(top).exp_()) / self.mass[rows]).log() + top[:, 0]
        return found

    def _check_head(self, model: PreTrainedModel) -> None:
        head = head_weight(model)
        if head is not self.head and not torch.equal(head, self.head):
            raise EvaluationError(
                "the candidate's output head is not the float model's, which this scorer assumes: "
                "use ramp.evaluation.heldout for models whose head changes"
            )

    @torch.inference_mode()
    def score(self, model: PreTrainedModel) -> Score:
        """Return mean KL(float || model) and NLL over the scored positions; ``tokens`` are forward tokens.

        ``EvaluationError`` for a model whose output head is not the float model's.
        """
        self._check_head(model)
        return self.compare(self._hidden_batches(model))

    @torch.inference_mode()
    def compare(self, found: Iterable[tuple[slice, Tensor]]) -> Score:
        """Return the score of a candidate from its hidden states after the final norm, by batches of windows."""
        kl = torch.empty_like(self.log_sum)
        nll = torch.empty_like(self.log_sum)
        for rows, hidden in self._scored_tokens(found):
            grown = self._growth(hidden, rows.start)
            moved = hidden.to(self.wide) - self.hidden[rows].to(self.wide)  # (tokens, hidden)
            kl[rows] = grown - torch.linalg.vecdot(self.mean_row[rows], moved)
            at_target = self.head[self.targets[rows]].to(self.wide)
            nll[rows] = self.nll[rows] + grown - torch.linalg.vecdot(at_target, moved)
        mean_nll = float(nll.double().mean())
        return Score(
            kl=float(kl.double().mean()),
            ppl=float(torch.tensor(mean_nll, dtype=torch.float64).exp()),
            nll=mean_nll,
            tokens=self.windows.numel(),
        )


def log_sum_exp_(z: Tensor) -> Tensor:
    """Return logsumexp over the last axis, (tile, vocab) -> (tile,); overwrite ``z``, so that no tile is read twice."""
    top = z.amax(-1, keepdim=True)
    return z.sub_(top).exp_().sum(-1).log() + top[:, 0]
