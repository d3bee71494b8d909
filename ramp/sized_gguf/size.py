"""Bytes of a file, as asked for: a size, bits per weight, or what fits into memory beside the context's cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from ramp.core.errors import RampError
from ramp.models.architecture import head_dim

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3}

CACHE_BYTES = 2
"""Of one number in llama.cpp's key-value cache, float16 by default."""

MICRO_BATCH = 512
"""Tokens that llama.cpp computes at once by default (``--ubatch-size``)."""


class SizeRequestError(RampError):
    """A size that cannot be read, or that no file of the model can have."""


def parse_size(text: str) -> int:
    """Return bytes of a size such as ``90MB`` (10^6), ``1.5GiB`` (2^30) or ``90000000``; ``SizeRequestError``."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]?)(i?)(b?)\s*", text.lower())
    if found is None or (found[3] and not found[2]):
        raise SizeRequestError(f"'{text}' is no size: write it as 90MB (10^6 bytes), 1.5GiB (2^30) or 90000000")
    size = int(Fraction(found[1]) * (1024 if found[3] else 1000) ** PREFIXES[found[2]])
    if size < 1:
        raise SizeRequestError(f"a size of '{text}' is less than a byte: write it as 90MB, 1.5GiB or 90000000")
    return size


@dataclass(frozen=True)
class Memory:
    """Memory that llama.cpp needs beside the weights, in bytes: exact for the cache, an estimate for buffers."""

    cache: int  # keys and values of the whole context, float16
    buffers: int  # logits and activations of a micro-batch, float32


def memory_beside_weights(config: PretrainedConfig, context: int) -> Memory:
    """Return what a context takes beside the weights, by llama.cpp's defaults.

    Buffers are estimated as the logits and five MLP widths of a micro-batch. Raises ``SizeRequestError`` beyond the
    model's context.
    """
    if not 1 <= context <= config.max_position_embeddings:
        raise SizeRequestError(f"--context {context} is outside 1 to {config.max_position_embeddings}, the model's own")
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim(config) * CACHE_BYTES
    batch = min(MICRO_BATCH, context)
    return Memory(context * per_token, 4 * batch * (config.vocab_size + 5 * config.intermediate_size))


def weights_in(config: PretrainedConfig, memory: int, context: int) -> int:
    """Return the largest file, in bytes, that fits into ``memory`` bytes with a context of so many tokens."""
    beside = memory_beside_weights(config, context)
    left = memory - beside.cache - beside.buffers
    if left < 1:
        raise SizeRequestError(
            f"a context of {context} tokens takes {beside.cache + beside.buffers} bytes beside the weights, more than "
            f"the {memory} given: shorten --context"
        )
    return left
