"""Memory of a GPU that a search uses besides its model, within what is free there.

Taken off first: the working memory of one batch (activations of a block, products with the head, their softmax). The
rest is shared by the hidden states of prefixes on search text, those on selection text, and packed entries of the bank,
3 : 1 : 4. Nobody gets more than is of use to it (the states of four and of two allocations; the whole bank), and what
one leaves goes to the others. A score depends on none of them.

By arithmetic, a 7B in bfloat16 with 8,192 tokens of each text and four widths wants 8.3 + 4.2 + 15 GB beside the model
(13.5), the scorers' tables (0.7 each) and 4.8 of working memory; a card of 24 GB has some 5 of them to share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ramp.bank.bank import Bank
from ramp.models.memory import free_bytes
from ramp.scoring.kl_divergence import BATCH_TOKENS, GPU_BATCHES, GPU_SLICE
from ramp.scoring.prefix_cache import PrefixScorer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SEARCH, SELECTION, BANK = 3, 1, 4
"""Shares of what is free."""

SEARCH_ALLOCATIONS, SELECTION_ALLOCATIONS = 4, 2
"""Allocations whose prefixes are of use: those around the incumbent; the finalists come in no order."""


def working_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Return the bytes that scoring a batch takes on a GPU besides weights and tables."""
    wide = 4 * int(config.hidden_size) + 3 * int(config.intermediate_size)  # alive in a block, per token
    return GPU_BATCHES * BATCH_TOKENS * wide * dtype.itemsize + 3 * GPU_SLICE * 4


def share_out(free: int, wanted: dict[str, int], shares: dict[str, int]) -> dict[str, int]:
    """Return bytes by name: ``free`` in proportion to ``shares``, never more than is ``wanted``."""
    given: dict[str, int] = {}
    left, names = max(0, free), sorted(wanted, key=lambda name: wanted[name] / shares[name])
    for index, name in enumerate(names):  # who wants the least for its share comes first: what it leaves goes on
        weight = sum(shares[each] for each in names[index:])
        given[name] = min(wanted[name], left * shares[name] // weight)
        left -= given[name]
    return given


def share_device(model: PreTrainedModel, bank: Bank, search: PrefixScorer, selection: PrefixScorer | None) -> None:
    """Give the scorers and the bank their memory on the model's GPU; on a processor they have constants of their own.

    To be called when everything else of the search is on the device. ``selection``: None where nothing is compared.
    """
    device, dtype = search.device, search.head.dtype
    if device.type == "cpu":
        return
    wanted = {
        "search": search.allocations_bytes(SEARCH_ALLOCATIONS),
        "selection": selection.allocations_bytes(SELECTION_ALLOCATIONS) if selection else 0,
        "bank": int(bank.bytes().sum()),
    }
    free = free_bytes(device) - working_bytes(model.config, dtype)
    given = share_out(free, wanted, {"search": SEARCH, "selection": SELECTION, "bank": BANK})
    search.keep(given["search"])
    if selection:
        selection.keep(given["selection"])
    bank.prepare(model, given["bank"])
