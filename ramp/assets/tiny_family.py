"""The tiny family: shapes of the models that the workflow trains itself, and how. Data; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A model of the tiny family and how it is trained."""

    family: str  # "llama" or "mistral", a key of ramp.models.architecture.ARCHITECTURES
    layers: int
    intermediate: int
    kv_heads: int
    tied: bool  # embedding and head are one matrix
    hidden: int = 256
    heads: int = 4
    head_dim: int = 64
    vocab: int = 1024
    context: int = 512
    step_tokens: int = 512  # tokens per step, cut into windows
    short_window: int = 128  # for most steps: cheaper, and positions are relative
    long_share: float = 0.2  # last share of the steps, with windows of the whole context
    embedding_std: float = 0.1  # transformers' 0.02 ended 0.7 nats higher after 123,000 tokens
    learning_rate: float = 2e-3
    warmup_steps: int = 20
    weight_decay: float = 0.1
    grad_clip: float = 1.0


PRESETS = {
    "tiny-llama-s": Preset(family="llama", layers=4, intermediate=512, kv_heads=4, tied=True),
    "tiny-llama-m": Preset(family="llama", layers=6, intermediate=768, kv_heads=4, tied=True),
    # Grouped heads, and a window twice the context: llama.cpp ignores Mistral's sliding window.
    "tiny-mistral": Preset(family="mistral", layers=4, intermediate=512, kv_heads=2, tied=False),
}
