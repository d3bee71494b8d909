"""Causal attention on a processor, a window and some heads at a time.

torch's plain form writes the scores of a whole batch, [batch, heads, length, length], and reads them again for the
mask, the softmax and a look for rows without any key: at windows of 2,048 tokens three fifths of a forward pass of
SmolLM2. Here they stay in the processor's cache. Windows of at most ``WHOLE`` tokens give the bytes of the plain form,
because the products are the same calls of BLAS; the embedded, smoke and league studies have no longer ones up to the
allocation. Longer ones, on which rows are evaluated, are taken ``ROWS`` queries at a time with the keys that these may
see, half of the work, and differ from it by rounding (tests/unit/test_attention.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

WHOLE = 512
"""Tokens of a window up to which its scores are one product."""

ROWS = 256
"""Queries of a longer window that are taken at a time: 2 MiB of scores at 2,048 tokens."""

TILE = 1 << 18
"""Scores up to which heads that read the same keys are taken together: 1 MiB."""

Share = Callable[[Callable[[slice], None], int, int], None]
"""Calls a function with runs of places, on threads: (function, number of places, places of a run)."""


def applies(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, is_causal: bool) -> bool:
    """Return whether ``causal`` gives this attention: float32, causal, as many queries as keys, no gradient."""
    import torch

    tensors = (query, key, value)
    return (
        is_causal
        and mask is None
        and not dropout
        and all(x.dim() == 4 and x.dtype == torch.float32 for x in tensors)
        and query.shape[2] == key.shape[2] > 0
        and query.shape[1] % key.shape[1] == 0
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
    )


def causal(query: Tensor, key: Tensor, value: Tensor, scale: float | None, share: Share) -> Tensor:
    """Return attention [batch, heads, length, width of value] of float32 queries, keys and values.

    query: [batch, heads, length, width]; key, value: [batch, groups, length, width], each read by heads / groups
    neighbouring heads.
    """
    import torch

    batch, heads, length, width = query.shape
    groups = key.shape[1]
    each = heads // groups
    root = (width**-0.5 if scale is None else scale) ** 0.5  # torch puts half of the scale on either side
    queries = (query * root).unflatten(1, (groups, each)).numpy()
    keys, values = (key * root).numpy(), value.detach().numpy()
    made = torch.empty(batch, length, heads, value.shape[3]).transpose(1, 2)  # as callers read it next
    into = made.unflatten(1, (groups, each)).numpy()
    rows = length if length <= WHOLE else ROWS
    later = torch.full((rows, rows), -torch.inf).triu_(1)
    at_once = each if each * rows * length <= TILE else 1

    def work(run: slice) -> None:
        room = torch.empty(at_once * rows * length)
        for place in range(run.start, min(run.stop, batch * groups)):
            at = divmod(place, groups)
            for head in range(0, each, at_once):
                some = slice(head, head + at_once)
                _window(queries[at][some], keys[at], values[at], into[at][some], later, room)

    share(work, batch * groups, 1)
    return made


def _window(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, into: np.ndarray, later: Tensor, room: Tensor
) -> None:
    """Write the attention of some heads [n, length, width] to the keys and values [length, width] that they share.

    later: 0, and minus infinity above the diagonal, for the rows of a tile; room: at least a tile's scores.
    """
    import numpy as np
    import torch

    rows, length = len(later), len(keys)
    for start in range(0, length, rows):
        stop = min(start + rows, length)
        shape = (len(queries), stop - start, stop)
        scores = room[: shape[0] * shape[1] * shape[2]].view(shape)
        np.matmul(queries[:, start:stop], keys[:stop].T, out=scores.numpy())
        scores[..., start:].add_(later[: stop - start, : stop - start])
        torch.softmax(scores, -1, out=scores)
        np.matmul(scores.numpy(), values[:stop], out=into[:, start:stop])
