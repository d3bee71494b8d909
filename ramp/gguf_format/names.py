"""GGUF names of every tensor and hyper-parameter of a model.

Tensor names are those of llama.cpp's ``gguf`` package, found by the checkpoint's own names. What differs between
families (the GGUF architecture, permuted q and k rows) stands in ``ramp.models.architecture``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from ramp.core.errors import RampError
from ramp.models.architecture import LinearSpec, architecture, head_dim, list_linears

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from ramp.models.folder import CheckpointReader

ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings that llama.cpp computes as transformers does: a test compares both beyond the original context."""

YARN_DEFAULTS = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
"""Parameters of YaRN that llama.cpp takes as given; it has no others but the factor and the original context."""

YARN_KEYS = ("rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "finetuned")
"""What is written of YaRN, and a note of its authors that changes nothing."""

ROPE_FACTORS = "rope_freqs.weight"
"""Tensor of the Llama class by which llama.cpp divides the frequencies of a llama3 rotary embedding."""


class GgufError(RampError):
    """A model, allocation or tokenizer that GGUF cannot hold, or a GGUF file that is damaged or of another model."""


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of the file and where it comes from."""

    name: str  # in the GGUF file, e.g. "blk.3.attn_q.weight"
    source: str  # in the Hugging Face checkpoint, e.g. "model.layers.3.self_attn.q_proj.weight"
    kind: str  # "linear", "embedding", "head", "norm", "bias", or "rope" (computed, in no checkpoint)
    shape: tuple[int, ...]  # as in the checkpoint, (d_out, d_in) or (d,)
    linear: LinearSpec | None = None  # for weights of kind "linear"
    heads: int = 0  # > 0: rows are permuted, this many heads
    layer: int | None = None  # None: outside the blocks


def gguf_tensors(config: PretrainedConfig) -> list[GgufTensor]:
    """Return every tensor of a model's GGUF file, in file order: embedding, blocks, final norm, head (unless tied).

    A llama3 rotary embedding has a tensor of factors after them.

    Raises ``GgufError`` where the ``gguf`` package has no name for a tensor of the family.
    """
    arch = architecture(config)
    hidden, vocab = config.hidden_size, config.vocab_size
    keys = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(keys[arch.gguf_arch], config.num_hidden_layers)

    def tensor(module: str, kind: str, *shape: int, part: str = "weight", **more: Any) -> GgufTensor:
        source = f"{module}.{part}"
        if (name := names.get_name(module)) is None:
            raise GgufError(f"the GGUF architecture '{arch.gguf_arch}' has no tensor for {source}")
        return GgufTensor(f"{name}.{part}", source, kind, shape, **more)

    tensors = [tensor(arch.embed, "embedding", vocab, hidden)]
    linears = list_linears(config)
    for layer in range(config.num_hidden_layers):
        for norm in (arch.attn_norm, arch.mlp_norm):
            tensors.append(tensor(f"{arch.blocks}.{layer}.{norm}", "norm", hidden, layer=layer))
        for x in linears:
            if x.layer != layer:
                continue
            heads = permuted_heads(config, x.role)
            tensors.append(tensor(x.name, "linear", x.d_out, x.d_in, linear=x, heads=heads, layer=layer))
            if x.has_bias:
                tensors.append(tensor(x.name, "bias", x.d_out, part="bias", heads=heads, layer=layer))
    tensors.append(tensor(arch.final_norm, "norm", hidden))
    if not config.tie_word_embeddings:
        tensors.append(tensor(arch.head, "head", vocab, hidden))
    if rope_parameters(config).get("rope_type") == "llama3":
        tensors.append(GgufTensor(ROPE_FACTORS, ROPE_FACTORS, "rope", (head_dim(config) // 2,)))
    return tensors


def checkpoint_values(reader: CheckpointReader, tensor: GgufTensor, config: PretrainedConfig) -> torch.Tensor:
    """Return what a tensor of the file is made of, float32: the checkpoint's, or the computed factors."""
    import torch

    if tensor.kind == "rope":
        return torch.from_numpy(rope_factors(config))
    return reader.get(tensor.source).float()


def rope_factors(config: PretrainedConfig) -> np.ndarray:
    """Return what llama.cpp divides each frequency of a llama3 rotary embedding by, float32 [head_dim / 2].

    1 for wavelengths that fit the original context ``high_freq_factor`` times, ``factor`` for those that do not fit it
    ``low_freq_factor`` times, between them a blend (llama.cpp, convert_hf_to_gguf.py, ``generate_extra_tensors``).
    """
    rope, width = rope_parameters(config), head_dim(config)
    frequencies = float(rope["rope_theta"]) ** -(np.arange(0, width, 2) / width)
    factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)  # in the original context
    blend = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - blend) / factor + blend)).astype(np.float32)


def permuted_heads(config: PretrainedConfig, role: str) -> int:
    """Return the number of heads whose rows llama.cpp interleaves for this role, 0 where rows keep their order."""
    if not architecture(config).gguf_permutes_qk:
        return 0
    return {"q": config.num_attention_heads, "k": config.num_key_value_heads}.get(role, 0)


def to_gguf_rows(values: np.ndarray, heads: int) -> np.ndarray:
    """Return rows of q or k in llama.cpp's rotary order; [heads * head_dim, ...] -> the same shape.

    A checkpoint pairs channel i of a head with channel i + head_dim/2 ("rotate half"), the Llama graph of llama.cpp
    pairs neighbours 2i and 2i + 1: within each head, row (half, i) moves to (i, half). Without heads the rows stay.
    """
    if not heads:
        return values
    rows = values.shape[0]
    split = values.reshape(heads, 2, rows // heads // 2, *values.shape[1:])  # (head, half, i, ...)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def from_gguf_rows(values: np.ndarray, heads: int) -> np.ndarray:
    """Return rows in the checkpoint's order: the inverse of ``to_gguf_rows``."""
    if not heads:
        return values
    rows = values.shape[0]
    split = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])  # (head, i, half, ...)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(values.shape))


def check_exportable(config: PretrainedConfig) -> None:
    """Raise ``GgufError`` for a model that llama.cpp computes otherwise: in activations or rotary embeddings."""
    architecture(config)
    activation = getattr(config, "hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise GgufError(f"llama.cpp computes SiLU in the MLPs of this family, the model has '{activation}'")
    rope_type(config)


def rope_type(config: PretrainedConfig) -> str:
    """Return the kind of the rotary embedding; ``GgufError`` for one that llama.cpp computes otherwise."""
    rope = rope_parameters(config)
    kind = str(rope.get("rope_type", "default"))
    if kind not in ROPE_TYPES:
        raise GgufError(f"rotary embedding of type '{kind}' is not exported to GGUF: only {', '.join(ROPE_TYPES)} are")
    if kind == "llama3" and (arch := architecture(config).gguf_arch) != "llama":
        raise GgufError(f"rotary embedding of type 'llama3' is not exported to GGUF for {arch}: llama.cpp lacks it")
    if kind == "yarn":
        usual = {**YARN_DEFAULTS, "attention_factor": 0.1 * math.log(float(rope.get("factor") or 1)) + 1}
        for key, value in rope.items():
            same = value is None or (key in usual and math.isclose(float(value), usual[key], rel_tol=1e-6))
            if key not in YARN_KEYS and not same:
                raise GgufError(f"rotary embedding of type 'yarn' with {key} {value}: llama.cpp computes it otherwise")
    return kind


def rope_parameters(config: PretrainedConfig) -> dict[str, Any]:
    """Return the parameters of the rotary embedding."""
    return dict(getattr(config, "rope_parameters", None) or {})


def add_hyperparameters(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    """Write the model's shape and constants, under its architecture's prefix.

    Raises ``GgufError`` for a rotary embedding that llama.cpp computes otherwise.
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
    rope, kind = rope_parameters(config), rope_type(config)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        original = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(int(original))


def sliding_window_note(config: PretrainedConfig) -> str:
    """Return a note where llama.cpp attends further than the model was trained for, else an empty string."""
    window = getattr(config, "sliding_window", None)
    if not window or getattr(config, "use_sliding_window", True) is False or window >= config.max_position_embeddings:
        return ""
    return f"llama.cpp ignores the sliding window of {window} tokens: evaluate contexts up to that length only"
