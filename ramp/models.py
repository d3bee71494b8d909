"""Models as data: which linears a family has, in forward order, and how to read their weights.

Adding an architecture is adding a row to ``ARCHITECTURES``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.errors import RampError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

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
"""Which input a role reads: linears of one site see the same activations."""

ATTENTION_ROLES = frozenset({"q", "k", "v", "o"})


class ModelError(RampError):
    """A model folder is missing, broken, or of a family without the named linears."""


@dataclass(frozen=True)
class Architecture:
    """Where a family keeps things, relative to the model (``embed``...) or to one block (``linears``...)."""

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
    """The table row of a model's family; ``ModelError`` names the known ones."""
    try:
        return ARCHITECTURES[config.model_type]
    except KeyError:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(
            f"model family '{config.model_type}' has no entry in ramp.models.ARCHITECTURES (known: {known}): add a row that names its linears"
        ) from None


def read_config(model_dir: str | Path) -> PretrainedConfig:
    """The model's configuration, read from ``config.json`` without touching a network."""
    from transformers import AutoConfig

    path = Path(model_dir) / "config.json"
    if not path.is_file():
        raise ModelError(f"no config.json in {model_dir}: give a Hugging Face checkpoint folder")
    try:
        return AutoConfig.from_pretrained(model_dir, local_files_only=True)
    except (ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None


def head_dim(config: PretrainedConfig) -> int:
    """Channels per attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def list_linears(config: PretrainedConfig) -> list[LinearSpec]:
    """Every quantizable linear in forward order, with shapes from the configuration alone."""
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


class CheckpointReader:
    """Tensors of a Hugging Face checkpoint by name, memory-mapped, from one file or many shards."""

    def __init__(self, model_dir: str | Path) -> None:
        from safetensors import safe_open

        self.model_dir = Path(model_dir)
        index = self.model_dir / "model.safetensors.index.json"
        if index.is_file():
            files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        else:
            files = ["model.safetensors"]
        self._where: dict[str, Any] = {}
        for file in files:
            path = self.model_dir / file
            if not path.is_file():
                raise ModelError(f"no {file} in {model_dir}: the checkpoint is incomplete, fetch the model again")
            try:
                handle = safe_open(str(path), framework="pt")
            except Exception as error:  # safetensors raises its own undocumented classes
                raise ModelError(
                    f"{path} is not a readable safetensors file ({error}): fetch the model again"
                ) from None
            for name in handle.keys():  # noqa: SIM118 - safe_open is no dict
                self._where[name] = handle

    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._where)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def _handle(self, name: str) -> Any:
        try:
            return self._where[name]
        except KeyError:
            raise ModelError(
                f"{self.model_dir} has no tensor '{name}': the checkpoint lacks a linear that its family should have"
            ) from None

    def get(self, name: str) -> torch.Tensor:
        """The tensor, as stored."""
        return self._handle(name).get_tensor(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, without reading it."""
        return tuple(self._handle(name).get_slice(name).get_shape())


def check_linears(reader: CheckpointReader, linears: list[LinearSpec]) -> None:
    """Raise ``ModelError`` unless every linear is in the checkpoint with the expected shape."""
    for linear in linears:
        shape = reader.shape(f"{linear.name}.weight")
        if shape != (linear.d_out, linear.d_in):
            raise ModelError(
                f"{reader.model_dir}: {linear.name} is {list(shape)}, its configuration says [{linear.d_out}, {linear.d_in}]"
            )


def pick_device(device: str) -> torch.device:
    """``auto`` becomes ``cuda`` where there is one, else ``cpu``; an absent GPU asked for is an error."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device '{device}' was asked for and this machine has no usable GPU: pass --device cpu")
    return torch.device(device)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 on a GPU and on processors with native bfloat16, else float32."""
    import torch

    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[name]
    if device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32


def load_float(
    model_dir: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> PreTrainedModel:
    """The float model, in evaluation mode, without gradients, attention by SDPA. ``dtype`` None keeps float32."""
    import torch
    from transformers import AutoModelForCausalLM

    config = read_config(model_dir)
    check_linears(CheckpointReader(model_dir), list_linears(config))
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=dtype or torch.float32, attn_implementation="sdpa", local_files_only=True
    )
    model.to(torch.device(device))  # type: ignore[arg-type]  # transformers wraps `to` without its types
    return model.eval().requires_grad_(False)


def load_tokenizer(model_dir: str | Path) -> Any:
    """The model's tokenizer, from its folder alone."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
