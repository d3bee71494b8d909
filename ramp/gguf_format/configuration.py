"""The Hugging Face configuration of a GGUF file: that of transformers, and what transformers passes over.

transformers 5 reads a file without its rotary scaling and its biases, and then computes another function than
llama.cpp. Here both are read, as ``ramp.gguf_format.names.add_hyperparameters`` writes them; what cannot be read is
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ramp.gguf_format.names import ROPE_FACTORS, GgufError, head_dim
from ramp.models.architecture import architecture
from ramp.models.config_limits import check_limits

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from ramp.gguf_format.reader import GgufFile

SCALING = ("scaling.type", "scaling.factor", "scaling.original_context_length")
ROPE_KEYS = frozenset({"dimension_count", "freq_base", "scaling.finetuned", "scale_linear", *SCALING})
"""Keys of a file below ``ARCHITECTURE.rope`` whose meaning is known here; ``finetuned`` changes nothing."""

SIZES = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context_length",
}
"""Key of ``config.json`` -> that of a GGUF file, below its architecture's name."""

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
"""Tensors of a file; one without a head uses the embedding."""

CHECKPOINT = "give the Hugging Face checkpoint that the file was made from"
ATTENTION_BIASES, MLP_BIASES = ("attn_q", "attn_k", "attn_v", "attn_output"), ("ffn_gate", "ffn_up", "ffn_down")


def read_configuration(file: GgufFile) -> PretrainedConfig:
    """Return the configuration of the model in a file; raise ``GgufError`` where transformers has none for it.

    Rotary scaling is read where it is linear or YaRN; biases where the family has a key for them.
    """
    from transformers import AutoConfig

    check_limits(header_sizes(file), file.path)
    where = {"pretrained_model_name_or_path": str(file.path.parent), "gguf_file": file.path.name}
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(**where, local_files_only=True)
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # of a header that holds other types, whatever its readers raise
        raise GgufError(f"transformers cannot load {file.path} ({' '.join(str(error).split())[:200]})") from None
    family = architecture(config)
    config.rope_parameters = {**(getattr(config, "rope_parameters", None) or {}), **rope_scaling(file, config)}
    names = set(file.names())
    for key, parts in ((family.attention_bias_key, ATTENTION_BIASES), (family.mlp_bias_key, MLP_BIASES)):
        if key is not None and any(f"blk.0.{part}.bias" in names for part in parts):
            setattr(config, key, True)  # a file with some of them alone lacks a tensor, which its reader says
    return config


def header_sizes(file: GgufFile) -> dict[str, Any]:
    """Return the sizes of the model in a file under the names of ``config.json``; None for one that it does not say."""
    family, names = file.metadata("general.architecture"), set(file.names())
    found = {name: file.metadata(f"{family}.{key}") for name, key in SIZES.items()}
    if found["vocab_size"] is None and EMBEDDING in names:
        found["vocab_size"] = file.shape(EMBEDDING)[0]
    return {**found, "model_type": family, "tie_word_embeddings": HEAD not in names}


def rope_scaling(file: GgufFile, config: PretrainedConfig) -> dict[str, Any]:
    """Return what a file says of its rotary embedding beyond its base, as ``rope_parameters``."""
    prefix = f"{file.metadata('general.architecture')}.rope."
    found = {key.removeprefix(prefix): file.metadata(key) for key in file.metadata_keys() if key.startswith(prefix)}
    if unknown := sorted(found.keys() - ROPE_KEYS):
        raise GgufError(f"{file.path}: the rotary embedding has {prefix}{unknown[0]}, which is not read: {CHECKPOINT}")
    if ROPE_FACTORS in file.names():
        raise GgufError(
            f"{file.path}: the tensor {ROPE_FACTORS} scales the rotary embedding (llama3), by what is not in the file: "
            f"{CHECKPOINT}"
        )
    if found.get("dimension_count", width := head_dim(config)) != width:
        raise GgufError(f"{file.path}: the rotary embedding turns part of a head's {width} channels: {CHECKPOINT}")
    kind, factor, original = (found.get(key) for key in SCALING)
    if kind is None and (factor := found.get("scale_linear")) is not None:
        kind = "linear"  # older files
    if kind in (None, "none"):
        return {}
    if kind == "linear" and factor is not None:
        return {"rope_type": kind, "factor": float(factor)}
    if kind != "yarn" or factor is None or original is None:
        raise GgufError(f"{file.path}: rotary embedding of type '{kind}' without all that it needs: {CHECKPOINT}")
    return {"rope_type": kind, "factor": float(factor), "original_max_position_embeddings": int(original)}
