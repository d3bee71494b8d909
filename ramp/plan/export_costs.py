"""Costs of GGUF files, of llama.cpp's mixes and of other people's packages."""

from __future__ import annotations

from dataclasses import replace

from ramp.methods.kinds import Mix, Package
from ramp.methods.names import FLOAT
from ramp.plan.calibration_costs import streamed
from ramp.plan.evaluation_costs import DEQUANTIZED_PER_S
from ramp.plan.pass_operations import block_products, gptq, gptq_steps, head_products
from ramp.plan.quantities import Facts
from ramp.plan.work import HASH_BANDWIDTH, Work
from ramp.sized_gguf.options import KNAPSACK
from ramp.study.row_names import Row

GGML_PER_S = 5e6
"""Weights that one core rounds to a type of ggml in a second: 23 minutes for a 7B. Arithmetic."""

SEARCHED_PER_S = 0.8e6
"""The same over all types of the section gguf, IQ types among them. Measured on SmolLM2-135M."""

SEARCH_TOKENS, SEARCH_LENGTH = 2048, 128
"""Search text of one evaluation of a method that chooses types (``ramp.sized_gguf.job``)."""

FALLBACK_BITS = {3: 3.9, 4: 4.85, 5: 5.7, 6: 6.6}
"""Bits per weight of llama.cpp's mixes by the number in their name (K_M)."""

PACKAGE_FACTOR = 3.0
"""Time of a package beside ours for the same rows: benchmarks.csv has 2.5 to 3.4 for GPTQ on a processor."""


def halo_export(facts: Facts, model: str, method: str, budget: str) -> Work:
    """Return the work of rounding folded float weights to ggml's types, on the job's threads."""
    shape = facts.shape(model)
    size = facts.row_bytes(model, method, budget) * 1.05
    return Work(
        core_s=shape.params / GGML_PER_S + size / HASH_BANDWIDTH, spread=True,
        disk=shape.params * shape.float_bytes + size,
        host_bytes=4 * max(x.params for x in shape.block) * 4 + 4 * shape.table_params, output_bytes=size,
    )  # fmt: skip


def halo_float(facts: Facts, model: str) -> Work:
    """Return the work of writing the float model as a float32 file."""
    shape = facts.shape(model)
    return Work(
        core_s=4 * shape.params / HASH_BANDWIDTH, disk=shape.params * (4 + shape.float_bytes),
        host_bytes=8 * max(shape.vocab_size * shape.hidden_size, *(x.params for x in shape.block)),
        output_bytes=4 * shape.params, passing_bytes=4 * shape.params,
    )  # fmt: skip


def halo_check(facts: Facts, model: str, row: str) -> Work:
    """Return the work of the check: its windows in llama.cpp and in transformers, float32 on the processor; a checksum.

    products = 2 * 2 * weights per token. Blocks are streamed on our side; llama.cpp maps the file.
    """
    shape, halo = facts.shape(model), facts.plan.study.halo
    tokens = halo.windows * halo.length
    plain = Row.parse(row).method == FLOAT
    size = 4 * shape.params if plain else shape.params * 0.6
    made_s = 0 if plain else shape.params / DEQUANTIZED_PER_S / facts.plan.study.threads
    return Work(
        float32=2 * (block_products(shape, tokens, halo.length) + head_products(shape, tokens)),
        core_s=size / HASH_BANDWIDTH + made_s + 2, disk=3 * size,
        host_bytes=4 * 3 * sum(x.params for x in shape.block) + 8 * shape.vocab_size * shape.hidden_size,
        output_bytes=1e4,
    )  # fmt: skip


def halo_row(facts: Facts, model: str, row: str) -> Work:
    """Return the work of the sizes and the checksum of an exported file."""
    parts = Row.parse(row)
    return Work(core_s=facts.row_bytes(model, parts.method, parts.budget) / HASH_BANDWIDTH, output_bytes=1e4)


def static_mix(facts: Facts, model: str, method: str) -> Work:
    """Return the work of llama.cpp's own quantizer on the float32 file, on the job's threads."""
    shape, mix = facts.shape(model), facts.plan.method(method)
    bits = FALLBACK_BITS.get(mix.bits if isinstance(mix, Mix) else 4, 8.5)
    size = shape.linear_params * bits / 8 + shape.stored_tables(facts.plan.study.track)
    return Work(
        core_s=shape.params / GGML_PER_S + size / HASH_BANDWIDTH, spread=True, disk=4 * shape.params + size,
        host_bytes=8 * shape.vocab_size * shape.hidden_size, output_bytes=size, passing_bytes=size,
    )  # fmt: skip


def gguf_mixes(facts: Facts, model: str) -> Work:
    """Return the work of every linear at every type, every mix with and without a matrix, and a file of ours by each.

    Rounding takes most of it: 135 million weights at twelve types in some 2,000 s of one core.
    """
    shape, section = facts.shape(model), facts.plan.gguf.section
    files = 2 * len(section.mixes) * (1 + len(section.methods)) * (1 + bool(section.tune_steps))
    searched = 2 * len(section.mixes) * (1 + bool(section.tune_steps)) * len({*section.methods} - {KNAPSACK})
    heldout = section.heldout_windows * section.length
    products = block_products(shape, section.tokens, section.length)
    products += (4 + len(section.types)) * block_products(shape, section.windows * section.window_length, 256)
    products += (files + 1) * (block_products(shape, heldout, section.length) + 2 * head_products(shape, heldout))
    products += (
        searched
        * section.evals
        * (block_products(shape, SEARCH_TOKENS, SEARCH_LENGTH) + 2 * head_products(shape, SEARCH_TOKENS))
    )
    return Work(
        float32=products, core_s=len(section.types) * shape.params / SEARCHED_PER_S / 12 + 3 * files,
        disk=10 * shape.params, host_bytes=12 * shape.params, output_bytes=(4 + 0.6 * files) * shape.params,
    )  # fmt: skip


def package(facts: Facts, model: str, method: str, budget: str) -> Work:
    """Return the work of a package's row: GPTQ of one width, three times our time; linears unpacked beside its file.

    Memory by the method file's ``footprint``: no package was measured at this scale. AWQ's search holds the inputs of
    a block's linears on all of the text in 16 bits on the host, and the widest of them on the card with the output
    that it is compared with (awq/quantize/quantizer.py of AutoAWQ, ``_get_input_feat`` and ``_search_best_scale``).
    """
    shape, own = facts.shape(model), facts.plan.methods[method]
    assert isinstance(own, Package)  # the rule's wildcard
    if facts.plan.environment_of(method, budget) is None:
        return Work(output_bytes=1e4)  # its reason
    work, held = streamed(facts, model, 2.0, hessians=True), own.footprint
    inputs = [2 * facts.calibration(model)[0] * d_in for d_in, _ in shape.sites.values()] if held.inputs else [0]
    unpacked = shape.linear_params * (4 if held.dense else 1 + 2 / facts.plan.study.group_size)
    size = facts.row_bytes(model, method, budget) + unpacked
    return replace(
        work,
        float32=PACKAGE_FACTOR * (work.float32 + gptq(shape, 1)),
        steps=PACKAGE_FACTOR * (work.steps + gptq_steps(shape, 1)),
        disk=2 * size + shape.params * shape.float_bytes,
        device_bytes=held.card * shape.params + work.device_bytes + 2 * max(inputs),
        host_bytes=held.host * shape.params + work.host_bytes + sum(inputs),
        output_bytes=size,
        passing_bytes=size,
    )


def package_row(facts: Facts, model: str, method: str, budget: str) -> Work:
    """Return the work of a package's linears packed as ours, or kept as weights where their grid is not ours."""
    shape = facts.shape(model)
    size = facts.stored_bytes(model, method, budget)
    if facts.plan.environment_of(method, budget) is None:
        return Work(output_bytes=1e4)
    return Work(
        core_s=shape.linear_params / 1e8 + size / HASH_BANDWIDTH, disk=shape.linear_params + 2 * size,
        host_bytes=facts.row_bytes(model, method, budget) + 2 * shape.stored_tables("fp16"),
        output_bytes=size, passing_bytes=size,
    )  # fmt: skip
