"""Decoder blocks of given shapes with random weights, and activations whose spectrum looks like a model's.

Inputs of a language model's linears are far from white: a few channels are tens of times larger than the median, and
most of the energy lies in few directions. Both decide how hard a Hessian is to factor and what GPTQ and AWQ gain, so
the synthetic activations have both: x = (F G + n) * c, with ``FACTORS`` factors F of power-law strength, white noise n
and log-normal channel scales c. Constants are round numbers, fitted to no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ramp.core.tensor_file import TensorFile
from ramp.models.architecture import ARCHITECTURES, SITES

FACTORS, FACTOR_DECAY, FACTOR_STRENGTH = 64, 0.7, 4.0
"""Shared directions of the activations; the k-th is ``FACTOR_STRENGTH`` / (k + 1)^``FACTOR_DECAY`` times the noise."""

CHANNEL_SPREAD = 0.8
"""Standard deviation of the logarithm of the channels' scales: the largest of 4,096 is about 17 times the median."""

WEIGHT_STD = 0.02
"""Standard deviation of the weights, as models of this size are initialised."""


@dataclass(frozen=True)
class BlockShape:
    """A Llama decoder block."""

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    layers: int = 1
    vocab: int = 32000

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """role -> (d_out, d_in), forward order."""
        kv = self.hidden // self.heads * self.kv_heads
        return {
            "q": (self.hidden, self.hidden), "k": (kv, self.hidden), "v": (kv, self.hidden),
            "o": (self.hidden, self.hidden), "gate": (self.intermediate, self.hidden),
            "up": (self.intermediate, self.hidden), "down": (self.hidden, self.intermediate),
        }  # fmt: skip

    def sites(self) -> dict[str, list[str]]:
        """Return input -> roles that read it."""
        return {site: [role for role, of in SITES.items() if of == site] for site in dict.fromkeys(SITES.values())}


LLAMA_7B = BlockShape(hidden=4096, intermediate=11008, heads=32, kv_heads=32, layers=32)
"""Llama-2-7B: 6,738,415,616 parameters, 13.5 GB in float16."""

SIZES = {
    "0.75M": BlockShape(256, 640, 4, 4, 1, 4096),
    "3M": BlockShape(512, 1280, 8, 8, 1, 4096),
    "12M": BlockShape(1024, 2560, 8, 8, 1, 4096),
    "48M": BlockShape(2048, 5120, 16, 16, 1, 4096),
}
"""Blocks of growing size, each four times the parameters of the one before; the 7B's has 202 million."""


def activations(tokens: int, d_in: int, generator: torch.Generator) -> Tensor:
    """Return float32 [tokens, d_in]: power-law factors, noise, log-normal channels (see above)."""
    powers = FACTOR_STRENGTH / torch.arange(1, FACTORS + 1).float().pow(FACTOR_DECAY)
    factors = torch.randn(tokens, FACTORS, generator=generator) * powers  # (tokens, factors)
    directions = torch.randn(FACTORS, d_in, generator=generator) / FACTORS**0.5
    x = torch.randn(tokens, d_in, generator=generator).addmm_(factors, directions)
    return x.mul_(torch.randn(d_in, generator=generator).mul_(CHANNEL_SPREAD).exp_())


def weight(d_out: int, d_in: int, generator: torch.Generator) -> Tensor:
    """Return float32 [d_out, d_in], normal."""
    return torch.randn(d_out, d_in, generator=generator).mul_(WEIGHT_STD)


def site_inputs(shape: BlockShape, tokens: int, seed: int) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
    """Yield (site, its input [tokens, d_in], {role: weight}) of a block, one site in memory at a time."""
    generator = torch.Generator().manual_seed(seed)
    for site, roles in shape.sites().items():
        weights = {role: weight(*shape.linears[role], generator) for role in roles}
        yield site, activations(tokens, shape.linears[roles[0]][1], generator), weights


def normal_table() -> np.ndarray:
    """Return 65,536 float16 quantiles of the weights' distribution: random 16-bit indices draw from it fast."""
    quantiles = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    return (torch.special.ndtri(quantiles) * WEIGHT_STD).to(torch.float16).numpy()


def write_checkpoint(folder: Path, shape: BlockShape, seed: int, *, read_layers: int | None = None) -> int:
    """Write a Llama checkpoint of random float16 weights tensor by tensor; return the bytes of its file.

    ``read_layers``: blocks that config.json names, fewer than the file holds: a reader stops there.
    """
    names = dict(ARCHITECTURES["llama"].linears)
    layout: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": ("F16", (shape.vocab, shape.hidden)),
        "model.norm.weight": ("F16", (shape.hidden,)),
        "lm_head.weight": ("F16", (shape.vocab, shape.hidden)),
    }
    for layer in range(shape.layers):
        for role, size in shape.linears.items():
            layout[f"model.layers.{layer}.{names[role]}.weight"] = ("F16", size)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            layout[f"model.layers.{layer}.{norm}.weight"] = ("F16", (shape.hidden,))
    folder.mkdir(parents=True)
    path = folder / "model.safetensors"
    file = TensorFile(path, layout, {"seed": seed})
    table, random = normal_table(), np.random.default_rng(seed)
    for name, (_, size) in layout.items():
        if len(size) == 1:
            # outlier channels, as trained gains have them
            gains = np.exp(CHANNEL_SPREAD * random.standard_normal(size))
            file.write(name, torch.from_numpy(gains.astype(np.float16)))
            continue
        drawn = table[random.integers(0, 65536, size=size, dtype=np.uint16)]
        file.write(name, torch.from_numpy(drawn))
    file.close(complete=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "num_hidden_layers": read_layers or shape.layers,
        "vocab_size": shape.vocab, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False, "dtype": "float16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return path.stat().st_size
