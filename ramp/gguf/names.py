"""GGUF as data: what llama.cpp calls every tensor and every hyper-parameter of a model.

Names and layouts are those of llama.cpp's ``gguf-py`` tables and of its model loader. A family that is already in
``ramp.models.architecture.ARCHITECTURES`` needs nothing here: its row there names the GGUF architecture and says
whether q and k rows are permuted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ramp.core.errors import RampError
from ramp.models.architecture import LinearSpec, architecture, head_dim, list_linears

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ROLE_TENSORS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
"""llama.cpp's name of each linear of a block."""

ROPE_TYPES = {"default", "linear"}
"""Rotary embeddings that are written as metadata alone; the others need tensors or functions of their own."""


class HaloError(RampError):
    """A model, allocation or tokenizer that GGUF or llama.cpp cannot hold, or a file that is not what was planned."""


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of the file and where it comes from."""

    name: str  # in the GGUF file, e.g. "blk.3.attn_q.weight"
    source: str  # in the Hugging Face checkpoint, e.g. "model.layers.3.self_attn.q_proj.weight"
    kind: str  # "linear", "embedding", "head", "norm" or "bias"
    shape: tuple[int, ...]  # as in the checkpoint, (d_out, d_in) or (d,)
    linear: LinearSpec | None = None  # for weights of kind "linear"
    heads: int = 0  # > 0: rows are permuted, this many heads
    layer: int | None = None  # None: outside the blocks


def gguf_tensors(config: PretrainedConfig) -> list[GgufTensor]:
    """Every tensor of a model's GGUF file, in file order: embedding, blocks, final norm, head (unless tied)."""
    arch = architecture(config)
    hidden, vocab = config.hidden_size, config.vocab_size
    tensors = [GgufTensor("token_embd.weight", f"{arch.embed}.weight", "embedding", (vocab, hidden))]
    linears = list_linears(config)
    for layer in range(config.num_hidden_layers):
        block, prefix = f"blk.{layer}", f"{arch.blocks}.{layer}"
        for ours, theirs in ((arch.attn_norm, "attn_norm"), (arch.mlp_norm, "ffn_norm")):
            source = f"{prefix}.{ours}.weight"
            tensors.append(GgufTensor(f"{block}.{theirs}.weight", source, "norm", (hidden,), layer=layer))
        for linear in linears:
            if linear.layer != layer:
                continue
            name, heads = f"{block}.{ROLE_TENSORS[linear.role]}", permuted_heads(config, linear.role)
            shape = (linear.d_out, linear.d_in)
            tensors.append(GgufTensor(f"{name}.weight", f"{linear.name}.weight", "linear", shape, linear, heads, layer))
            if linear.has_bias:
                source = f"{linear.name}.bias"
                tensors.append(GgufTensor(f"{name}.bias", source, "bias", (linear.d_out,), None, heads, layer))
    tensors.append(GgufTensor("output_norm.weight", f"{arch.final_norm}.weight", "norm", (hidden,)))
    if not config.tie_word_embeddings:
        tensors.append(GgufTensor("output.weight", f"{arch.head}.weight", "head", (vocab, hidden)))
    return tensors


def permuted_heads(config: PretrainedConfig, role: str) -> int:
    """Heads whose rows llama.cpp interleaves for this role, 0 where it keeps the checkpoint's order."""
    if not architecture(config).gguf_permutes_qk:
        return 0
    return {"q": config.num_attention_heads, "k": config.num_key_value_heads}.get(role, 0)


def to_gguf_rows(values: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k, from the checkpoint's rotary order to llama.cpp's; [heads * head_dim, ...] -> the same shape.

    A checkpoint pairs channel i of a head with channel i + head_dim/2 ("rotate half"), the Llama graph of llama.cpp
    pairs neighbours 2i and 2i + 1: within each head, row (half, i) moves to (i, half). 0 heads: nothing moves.
    """
    if not heads:
        return values
    rows = values.shape[0]
    split = values.reshape(heads, 2, rows // heads // 2, *values.shape[1:])  # (head, half, i, ...)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def from_gguf_rows(values: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of ``to_gguf_rows``."""
    if not heads:
        return values
    rows = values.shape[0]
    split = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])  # (head, i, half, ...)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def add_hyperparameters(writer: Any, config: PretrainedConfig) -> None:
    """Write the model's shape and constants into a ``gguf.GGUFWriter``, under its architecture's prefix.

    Raises ``HaloError`` for a rotary embedding that needs more than metadata.
    """
    heads, width = config.num_attention_heads, head_dim(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(width)
    if heads * width != config.hidden_size:  # else llama.cpp derives both from the embedding length
        writer.add_key_length(width)
        writer.add_value_length(width)
    rope = dict(getattr(config, "rope_parameters", None) or {})
    kind = rope.get("rope_type", "default")
    if kind not in ROPE_TYPES:
        raise HaloError(
            f"rotary embedding of type '{kind}' is not exported to GGUF: only {', '.join(sorted(ROPE_TYPES))} are"
        )
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if kind == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def sliding_window_note(config: PretrainedConfig) -> str:
    """A sentence where llama.cpp will attend further than the model was made for, else an empty string."""
    window = getattr(config, "sliding_window", None)
    if not window or getattr(config, "use_sliding_window", True) is False or window >= config.max_position_embeddings:
        return ""
    return f"llama.cpp ignores the sliding window of {window} tokens: evaluate contexts up to that length only"
