"""Model families as data: which linears a decoder block has, in forward order, and which share an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ramp.core.errors import RampError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


ROLES = ("q", "k", "v", "o", "gate", "up", "down")
"""Roles of the linears of one decoder block, in the order in which a token meets them."""


SITES = {
    "q": "attn_in",
    "k": "attn_in",
    "v": "attn_in",
    "o": "o_in",
    "gate": "mlp_in",
    "up": "mlp_in",
    "down": "down_in",
}
"""The input that a role reads, its *site*: linears of one site see the same activations."""


ATTENTION_ROLES = frozenset({"q", "k", "v", "o"})


class ModelError(RampError):
    """A model folder is missing, broken, or of a family without the named linears."""


@dataclass(frozen=True)
class Architecture:
    """Module paths of a family, relative to the model (``embed``...) or to one block (``linears``...). A family with
    Llama's topology is one row of ``ARCHITECTURES``."""

    blocks: str = "model.layers"
    embed: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    head: str = "lm_head"
    linears: tuple[tuple[str, str], ...] = (
        ("q", "self_attn.q_proj"),
        ("k", "self_attn.k_proj"),
        ("v", "self_attn.v_proj"),
        ("o", "self_attn.o_proj"),
        ("gate", "mlp.gate_proj"),
        ("up", "mlp.up_proj"),
        ("down", "mlp.down_proj"),
    )
    attn_norm: str = "input_layernorm"
    mlp_norm: str = "post_attention_layernorm"
    bias_roles: frozenset[str] = frozenset()  # roles with a bias by default
    attention_bias_key: str | None = None  # config key that adds a bias to q, k, v and o
    mlp_bias_key: str | None = None  # config key that adds a bias to gate, up and down
    gguf_arch: str = "llama"
    gguf_permutes_qk: bool = True  # llama.cpp stores q/k rows interleaved for the Llama class only


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(attention_bias_key="attention_bias", mlp_bias_key="mlp_bias"),
    "mistral": Architecture(),
    "qwen2": Architecture(bias_roles=frozenset({"q", "k", "v"}), gguf_arch="qwen2", gguf_permutes_qk=False),
}


@dataclass(frozen=True)
class LinearSpec:
    """One linear of the model: the unit of allocation."""

    name: str  # module path without ".weight"
    layer: int
    role: str  # one of ROLES
    d_out: int
    d_in: int
    site: str  # "model.layers.3.attn_in": the input it reads
    index: int  # position in forward order
    has_bias: bool

    @property
    def params(self) -> int:
        """Number of weights, bias not counted."""
        return self.d_out * self.d_in


def architecture(config: PretrainedConfig) -> Architecture:
    """Return the row of a model's family; raise ``ModelError`` with the known ones."""
    return known_family(config.model_type, "the configuration")


def known_family(name: object, where: object) -> Architecture:
    """Return the row of a family that a configuration (``where``) names; raise ``ModelError`` with the known ones."""
    if isinstance(name, str) and name in ARCHITECTURES:
        return ARCHITECTURES[name]
    known = ", ".join(sorted(ARCHITECTURES))
    named = f"model_type '{str(name)[:40]}' is of a family that is not known here" if name else "model_type is missing"
    raise ModelError(f"{where}: {named} (known: {known}): give a model of one of these, or add it (docs/adding.md)")


def head_dim(config: PretrainedConfig) -> int:
    """Return the channels per attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def list_linears(config: PretrainedConfig) -> list[LinearSpec]:
    """Return every quantizable linear in forward order, with shapes from the configuration alone."""
    arch = architecture(config)
    hidden, inter = config.hidden_size, config.intermediate_size
    q_width = config.num_attention_heads * head_dim(config)
    kv_width = config.num_key_value_heads * head_dim(config)
    shapes = {
        "q": (q_width, hidden),
        "k": (kv_width, hidden),
        "v": (kv_width, hidden),
        "o": (hidden, q_width),
        "gate": (inter, hidden),
        "up": (inter, hidden),
        "down": (hidden, inter),
    }
    found: list[LinearSpec] = []
    for layer in range(config.num_hidden_layers):
        for role, path in arch.linears:
            key = arch.attention_bias_key if role in ATTENTION_ROLES else arch.mlp_bias_key
            has_bias = role in arch.bias_roles or bool(key and getattr(config, key, False))
            found.append(
                LinearSpec(
                    name=f"{arch.blocks}.{layer}.{path}",
                    layer=layer,
                    role=role,
                    d_out=shapes[role][0],
                    d_in=shapes[role][1],
                    site=f"{arch.blocks}.{layer}.{SITES[role]}",
                    index=len(found),
                    has_bias=has_bias,
                )
            )
    return found
