"""KL over the most probable words alone: a switch of the search (``top_k``), never for a reported number.

Per token, with p the float model's probabilities, d = W (h - h_float) the change of the logits and T the words beyond
the k most probable,

    KL = log(sum_k p exp d + sum_T p exp d) - E[d]   becomes   log(sum_k p exp d + p_T exp E_T[d]) - E[d].

E[d] and E_T[d] are dot products of the hidden size (``ramp.scoring.kl_divergence``), so the head multiplies k rows per
token instead of the whole vocabulary. By Jensen's inequality exp E_T[d] <= E_T[exp d]: the result is never more than
the KL, short of it by about half of p_T times the variance of d in the tail, and the KL itself at k = vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ramp.scoring.kl_divergence import EvaluationError
from ramp.scoring.prefix_cache import PrefixScorer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GATHERED = 4 << 20
"""Numbers of the head gathered at once: 8 MB of bfloat16."""


class TopKScorer(PrefixScorer):
    """``PrefixScorer`` that sees the ``top_k`` most probable words of the float model, and the rest as one.

    Memory: tokens * (hidden * 12 + top_k * 12) bytes beside the prefixes, and no table over the vocabulary.
    """

    def __init__(
        self, float_model: PreTrainedModel, windows: Tensor, top_k: int, limit_bytes: int | None = None
    ) -> None:
        """As ``PrefixScorer``."""
        if not 1 <= top_k <= float_model.config.vocab_size:
            raise EvaluationError(f"top_k of {top_k}: give 1 to the vocabulary of {float_model.config.vocab_size}")
        self.top_k = top_k
        super().__init__(float_model, windows, limit_bytes)

    def _allocate(self, scored: int) -> None:
        self.words = torch.empty(scored, self.top_k, dtype=torch.int64, device=self.device)
        self.p_words = torch.empty(scored, self.top_k, dtype=self.wide, device=self.device)
        self.p_tail = torch.empty_like(self.log_sum)
        self.tail_row = torch.empty_like(self.mean_row)  # E_T[W]

    def _describe(self, part: slice, p: Tensor, head: Tensor) -> Tensor:
        self.p_words[part], self.words[part] = p.topk(self.top_k, dim=-1)
        tail = p.scatter(1, self.words[part], 0)
        self.p_tail[part] = tail.sum(-1)
        self.tail_row[part] = (tail @ head) / self.p_tail[part, None].clamp_min(torch.finfo(self.wide).tiny)
        return p

    def _growth(self, hidden: Tensor, first: int) -> Tensor:
        moved = hidden - self.hidden[first : first + len(hidden)]
        grown = torch.empty(len(hidden), dtype=self.wide, device=self.device)
        step = max(1, GATHERED // (self.top_k * hidden.shape[1]))
        for start in range(0, len(hidden), step):
            here = slice(start, min(start + step, len(hidden)))
            rows = slice(first + here.start, first + here.stop)
            words = self.head[self.words[rows]]  # (tokens, k, hidden)
            d = torch.bmm(words, moved[here].unsqueeze(-1))[..., 0].to(self.wide)  # (tokens, k)
            tail = torch.linalg.vecdot(self.tail_row[rows], moved[here].to(self.wide))
            terms = torch.cat([d + self.p_words[rows].log(), (tail + self.p_tail[rows].log())[:, None]], dim=1)
            grown[here] = torch.logsumexp(terms, dim=-1)
        return grown
