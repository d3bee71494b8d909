"""Checkpoint folders that disagree with themselves, as public bug reports describe them, and some that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.tiny_models import edited, sharded

State = dict[str, Tensor]
Q, HEAD, EMBED = "model.layers.1.self_attn.q_proj", "lm_head.weight", "model.embed_tokens.weight"


def each_linear(change: Callable[[str, Tensor], State]) -> Callable[[State], None]:
    """A change of the tensors by which every linear's weight becomes ``change(module, weight)``."""

    def apply(state: State) -> None:
        for name in [name for name in state if "_proj.weight" in name]:
            state.update(change(name.removesuffix(".weight"), state.pop(name)))

    return apply


def without(*names: str) -> Callable[[State], None]:
    return lambda state: [state.pop(name) for name in names]  # type: ignore[return-value]


def put(name: str, value: Callable[[State], Tensor]) -> Callable[[State], None]:
    return lambda state: state.update({name: value(state)})


def renamed(change: Callable[[str], str]) -> Callable[[State], None]:
    def apply(state: State) -> None:
        for name in list(state):
            state[change(name)] = state.pop(name)

    return apply


def fp8(module: str, weight: Tensor) -> State:
    scale = weight.abs().max() / 448
    return {f"{module}.weight": (weight / scale).to(torch.float8_e4m3fn), f"{module}.weight_scale": scale.reshape(1)}


def int8(module: str, weight: Tensor) -> State:
    scale = weight.abs().amax(1)
    return {f"{module}.weight": (weight / scale[:, None] * 127).round().to(torch.int8), f"{module}.SCB": scale}


def gptq(module: str, weight: Tensor) -> State:
    d_out, d_in = weight.shape
    words = {"qweight": (d_in // 8, d_out), "qzeros": (2, d_out // 8), "g_idx": (d_in,)}
    codes = {f"{module}.{part}": torch.zeros(shape, dtype=torch.int32) for part, shape in words.items()}
    return codes | {f"{module}.scales": torch.ones(2, d_out, dtype=torch.float16)}


def four_bit(module: str, weight: Tensor) -> State:
    packed = torch.zeros(weight.numel() // 2, 1, dtype=torch.uint8)
    return {f"{module}.weight": packed, f"{module}.weight.absmax": torch.ones(weight.numel() // 64)}


def simulated(module: str, weight: Tensor) -> State:
    """Weights on a grid, in float, beside the scales that they have to be multiplied by."""
    return {f"{module}.weight": weight.round(), f"{module}.weight_scale": torch.ones(weight.shape[0], 1)}


def every_second_row(state: State) -> Tensor:
    return state[HEAD][::2]


def bias(role: str) -> Callable[[State], None]:
    """Biases on one role of every block."""

    def apply(state: State) -> None:
        for name in [name for name in state if f".{role}_proj.weight" in name]:
            state[name.replace(".weight", ".bias")] = torch.ones(state[name].shape[0])

    return apply


def nothing(state: State) -> None:
    """Leave the tensors as they are."""


QUANTIZED = {"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized"}}

TENSORS: dict[str, tuple[Callable[[State], None], dict[str, Any], tuple[str, ...]]] = {
    "head missing": (without(HEAD), {}, (HEAD, "tie_word_embeddings is false", "model.safetensors")),
    "another head beside a tied one": (nothing, {"tie_word_embeddings": True}, (HEAD, "differs", "model.safetensors")),
    "a shorter head beside a tied one": (put(HEAD, every_second_row), {"tie_word_embeddings": True}, ("differs",)),
    "norm of a block missing": (
        without("model.layers.1.post_attention_layernorm.weight"), {},
        ("model.layers.1.post_attention_layernorm.weight", "no tensor", "model.safetensors"),
    ),
    "final norm missing": (without("model.norm.weight"), {}, ("model.norm.weight", "no tensor")),
    "biases missing": (nothing, {"attention_bias": True}, ("self_attn.q_proj.bias", "no tensor")),
    "biases not configured": (bias("q"), {}, ("self_attn.q_proj.bias (and 1 more)", "attention_bias")),
    "MLP biases not configured": (bias("down"), {}, ("mlp.down_proj.bias", "mlp_bias")),
    "biases of a family without": (bias("q"), {"model_type": "mistral"}, ("q_proj.bias", "its family has none")),
    "a tensor that no module takes": (
        put("model.layers.0.self_attn.q_norm.weight", lambda state: torch.ones(16)), {},
        ("self_attn.q_norm.weight", "no module of this llama model"),
    ),
    "more blocks than configured": (nothing, {"num_hidden_layers": 1}, ("model.layers.1", "no module")),
    "fewer blocks than configured": (nothing, {"num_hidden_layers": 3}, ("model.layers.2", "no tensor")),
    "a hundred million blocks": (nothing, {"num_hidden_layers": 10**8}, ("num_hidden_layers: 100000000",)),
    "names without their prefix": (
        renamed(lambda name: name.removeprefix("model.")), {},
        ("model.layers.0.self_attn.q_proj.weight", "it has 'layers.0.self_attn.q_proj.weight'"),
    ),
    "names with another prefix": (
        renamed(lambda name: f"language_model.{name}"), {}, ("'language_model.model.layers.0.self_attn.q_proj.weight'",)
    ),
    "another hidden size": (nothing, {"hidden_size": 32}, (EMBED, "configuration says [258, 32]")),
    "another vocabulary": (nothing, {"vocab_size": 322}, (EMBED, "[322, 64]")),
    "no model at all": (nothing, {"num_attention_heads": 0}, ("config.json",)),
    "fp8": (each_linear(fp8), QUANTIZED, ("quantized already", "compressed-tensors", "_proj.weight")),
    "quantized by its configuration alone": (nothing, QUANTIZED, ("quantized already", "compressed-tensors")),
    "fp8, not configured": (each_linear(fp8), {}, ("quantized already", "F8_E4M3", "model.safetensors")),
    "int8": (each_linear(int8), {"quantization_config": {"load_in_8bit": True}}, ("quantized already",)),
    "int8, not configured": (each_linear(int8), {}, ("quantized already", "_proj.SCB")),
    "gptq": (each_linear(gptq), {"quantization_config": {"quant_method": "gptq", "bits": 4}}, ("quantized", "gptq")),
    "gptq, not configured": (each_linear(gptq), {}, ("quantized already", "I32")),
    "4-bit": (each_linear(four_bit), {"quantization_config": {"quant_method": "bitsandbytes"}}, ("bitsandbytes",)),
    "4-bit, not configured": (each_linear(four_bit), {}, ("quantized already", "U8")),
    "float codes beside scales": (each_linear(simulated), {}, ("_proj.weight_scale", "quantized already")),
}  # fmt: skip
"""Name -> tensors changed, keys of the configuration changed, words of the refusal."""


def pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def variant_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def shard_missing(folder: Path) -> None:
    (sharded(folder) / "model-00002-of-00002.safetensors").unlink()


def both(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (sharded(folder) / "model.safetensors").write_bytes(whole)


def index_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    index = {"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def twice(folder: Path) -> None:
    first = sharded(folder) / "model-00001-of-00002.safetensors"
    (folder / "model-00002-of-00002.safetensors").write_bytes(first.read_bytes())


FILES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "pickle alone": (pickle_alone, ("pytorch_model.bin", "model.safetensors")),
    "variant alone": (variant_alone, ("model.fp16.safetensors",)),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), ("no model.safetensors",)),
    "cut short": (cut, ("model.safetensors is no safetensors file",)),
    "shard missing": (shard_missing, ("model-00002-of-00002.safetensors",)),
    "one file and shards": (both, ("model.safetensors", "model.safetensors.index.json")),
    "index of files elsewhere": (index_outside, ("../elsewhere.safetensors",)),
    "one tensor in two shards": (twice, ("model-00001-of-00002.safetensors", "both")),
}
"""Name -> files changed, words of the refusal."""


def old_buffers(state: State) -> None:
    for layer in range(2):
        state[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.arange(8.0)


RIGHT: dict[str, tuple[Callable[[State], None], dict[str, Any]]] = {
    "as saved": (nothing, {}),
    "equal copy of the embedding": (put(HEAD, lambda state: state[EMBED]), {"tie_word_embeddings": True}),
    "tied without a head": (without(HEAD), {"tie_word_embeddings": True}),
    "buffers of old checkpoints": (old_buffers, {}),
    "biases": (lambda state: [bias(role)(state) for role in "qkvo"] and None, {"attention_bias": True}),
    "MLP biases": (lambda state: [bias(role)(state) for role in ("gate", "up", "down")] and None, {"mlp_bias": True}),
    "half precision": (lambda state: state.update({n: t.half() for n, t in state.items()}), {"dtype": "float16"}),
}
"""Name -> tensors changed, keys of the configuration changed: folders that agree with themselves."""


def faulty(source: Path, target: Path, name: str) -> tuple[Path, tuple[str, ...]]:
    """A folder of ``TENSORS`` or ``FILES``, and the words of its refusal."""
    if name in TENSORS:
        change, config, words = TENSORS[name]
        return edited(source, target, change, **config), words
    spoil, words = FILES[name]
    spoil(edited(source, target, nothing))
    return target, words
