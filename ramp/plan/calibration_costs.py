"""Costs of the stages that stream a model block by block: calibration, folds, banks, sensitivities, final rows.

Memory of the device is one block in float32 with its activations, Hessians and results; hidden states of all windows
lie there too where they fit, else on the host.
"""

from __future__ import annotations

from dataclasses import replace

from ramp.plan.pass_operations import (
    KERNELS,
    block_products,
    gptq,
    gptq_steps,
    head_products,
    moments,
    site_errors,
    site_share,
)
from ramp.plan.quantities import Facts
from ramp.plan.work import HASH_BANDWIDTH, Work
from ramp.study.fold_sharing import searched_with
from ramp.study.model_shape import ModelShape
from ramp.study.row_names import Row

ACTIVATION_BYTES = 2 << 30
"""As ``ramp.calibration.block.ACTIVATION_BYTES``: beyond it a block runs again for each site."""

BATCH = 4
"""Windows that go through a block together (``ramp.calibration.stream``)."""

CANDIDATES, FINALISTS = 19, 3
"""Candidates of AWQ's scale that are ranked on some rows, and those scored on all (``ramp.quantizers.awq``)."""

ROUNDING = 12
"""Times that rounding to a grid reads or writes a float32 weight."""

SWEEP_BYTES = 1 << 29
"""Working memory of GPTQ beside weights and results (``ramp.quantizers.gptq``)."""

SCORE_BYTES = 13
"""Bytes of an attention score of a model with grouped heads in float32 on a card. torch has no kernel there that keeps
no scores: its plain one holds three copies and a mask (``at::_safe_softmax``). Read from its sources, not measured."""

SMALL_BYTES = 1e6
"""Of a file of scales or sensitivities."""

RANGES = 6
"""Times that ranges and moments of an input read or write it, in float32."""


def streamed(facts: Facts, model: str, passes: float, *, hessians: bool) -> Work:
    """Return a pass of the calibration text: ``passes`` runs of every block, statistics of every site's input.

    products = passes * (2 * weights + attention) per token, and 9/8 * d_in^2 per token and site for Hessians.
    """
    shape, (tokens, length) = facts.shape(model), facts.calibration(model)
    width = 2 * shape.hidden_size + shape.query_width + shape.intermediate_size
    states = tokens * shape.hidden_size * 4
    products = passes * block_products(shape, tokens, length) + (moments(shape, tokens) if hessians else 0)
    return Work(
        float32=products,
        moved=RANGES * 4 * tokens * width * shape.num_hidden_layers,
        steps=passes * KERNELS * shape.num_hidden_layers * max(1, tokens // (BATCH * length)),
        disk=shape.params * shape.float_bytes,
        uses_gpu=True,
        device_bytes=block_bytes(shape, min(tokens, BATCH * length), hessians=hessians, length=length),
        core_bytes=block_bytes(shape, min(tokens, BATCH * length), hessians=hessians),
        wanted_bytes=states,
        host_bytes=states + 4 * shape.vocab_size * shape.hidden_size,
    )


def block_bytes(shape: ModelShape, tokens: float, *, hessians: bool, length: int = 0) -> float:
    """Return the bytes of one float32 block, a batch of activations through it, and the Hessians of its sites.

    Four of the hidden size and three of the MLP's are alive at once; the Hessian that is factored is there three times.
    With the ``length`` of a window, on a card: the attention scores of grouped heads besides.
    """
    grouped = shape.num_key_value_heads < shape.num_attention_heads
    scores = SCORE_BYTES * tokens * length * shape.num_attention_heads if grouped else 0
    weights = sum(linear.params for linear in shape.block)
    activations = tokens * (4 * shape.hidden_size + 3 * shape.intermediate_size)
    squares = [d_in**2 for d_in, _ in shape.sites.values()] if hessians else [0]
    return 4 * (2 * weights + activations + sum(squares) + 2 * max(squares)) + scores


def whole_pass(facts: Facts, model: str) -> float:
    """Return the runs of a block for all sites' statistics at once: one, or the part up to the last site and one."""
    shape, (tokens, _) = facts.shape(model), facts.calibration(model)
    return 1.0 if 4 * tokens * shape.hidden_size <= ACTIVATION_BYTES else 1 + site_share(shape, "down_in")


def sequential_passes(facts: Facts, model: str) -> float:
    """Return the runs of a block whose sites are quantized one after another: one, or one more up to each site."""
    shape, (tokens, _) = facts.shape(model), facts.calibration(model)
    if 4 * tokens * (4 * shape.hidden_size + 3 * shape.intermediate_size) <= ACTIVATION_BYTES:
        return 1.0
    return 1 + sum(site_share(shape, kind) for kind in shape.sites)


def calibration(facts: Facts, model: str) -> Work:
    """Return the work of a pass with ranges of every site's input, the first to read the weights and their checksum."""
    shape = facts.shape(model)
    width = 2 * shape.hidden_size + shape.query_width + shape.intermediate_size
    work = streamed(facts, model, whole_pass(facts, model), hessians=False)
    return replace(
        work,
        core_s=shape.params * shape.float_bytes / HASH_BANDWIDTH,
        output_bytes=3 * 4 * width * shape.num_hidden_layers,
    )


def fold(facts: Facts, model: str, fold: str) -> Work:
    """Return the work of a fold: one pass with Hessians, and AWQ's search of a scale per site.

    The search tries 19 candidates on 128 rows of each linear, three and the unscaled weights on all, at every width of
    the fold; SmoothQuant needs ranges alone. A fold of one width that the shared one's search gives is copied.
    """
    shape, settings = facts.shape(model), facts.plan.fold_settings(fold)
    if settings is None or searched_with(facts.plan, model, fold):
        return Work(fixed_s=0.1)
    widths = len(settings.bits) if settings.kind == "awq" else 0
    candidates = CANDIDATES * (2 if settings.duo else 1)
    searched = candidates * site_errors(shape, settings.max_rows) + (FINALISTS + 1) * site_errors(shape)
    if settings.max_rows is None:
        searched = (candidates + 1) * site_errors(shape)
    work = streamed(facts, model, whole_pass(facts, model), hessians=widths > 0)
    rounded = ROUNDING * 4 * shape.linear_params * widths * (FINALISTS + 1)
    return replace(work, float32=work.float32 + widths * searched, moved=work.moved + rounded, output_bytes=SMALL_BYTES)


def bank(facts: Facts, model: str, fold: str, quantizer: str) -> Work:
    """Return the work of a bank: a pass of the folded model, but for rounding, and every linear at every width."""
    shape, count = facts.shape(model), facts.bank_widths
    size = shape.menu_bytes(facts.plan.study.widths, facts.plan.study.group_size)
    rounded = ROUNDING * 4 * shape.linear_params * count + 4 * 8 * shape.linear_params  # and moments, in float64
    if quantizer == "rtn":
        return Work(
            moved=rounded, disk=shape.params * shape.float_bytes + size, uses_gpu=True,
            device_bytes=block_bytes(shape, 0, hessians=False), output_bytes=size, passing_bytes=size,
        )  # fmt: skip
    work = streamed(facts, model, whole_pass(facts, model), hessians=True)
    codes = count * max(rows * d_in for d_in, rows in shape.sites.values())
    sweep = min(SWEEP_BYTES, 8 * codes)
    return replace(
        work,
        float32=work.float32 + gptq(shape, count),
        moved=work.moved + rounded,
        steps=work.steps + gptq_steps(shape, count),
        disk=work.disk + size,
        device_bytes=work.device_bytes + codes + 2 * sweep,
        core_bytes=work.core_bytes + codes + sweep,
        output_bytes=size,
        passing_bytes=size,
    )


SEEN_BYTES = 2 << 30
"""Inputs and gradients of one block's linears that a backward pass keeps (``ramp.sensitivity.fisher``)."""


def sensitivity(facts: Facts, model: str, fold: str, quantizer: str) -> Work:
    """Return the work of a forward and a backward pass of the folded model in float32, and a product more per width.

    products = (3 + widths) * 2 * weights + 3 * head per token. Block by block: the inputs of all blocks are kept, and
    each block runs forward again before its backward pass.
    """
    shape, (tokens, length) = facts.shape(model), facts.sensitivity(model)
    count = facts.bank_widths
    body = block_products(shape, tokens, length)
    logits = 4 * length * shape.vocab_size * 4
    inputs = 4 * tokens * shape.hidden_size * shape.num_hidden_layers
    bank_bytes = shape.menu_bytes(facts.plan.study.widths, facts.plan.study.group_size)
    return Work(
        float32=4 * body + count * 2 * shape.linear_params * tokens + 3 * head_products(shape, tokens),
        moved=4 * count * ROUNDING * shape.linear_params * max(1, tokens // length),
        steps=4 * KERNELS * shape.num_hidden_layers * max(1, tokens // length),
        core_s=bank_bytes / HASH_BANDWIDTH,
        disk=shape.params * shape.float_bytes + bank_bytes,
        uses_gpu=True,
        device_bytes=2 * block_bytes(shape, length, hessians=False, length=length)
        + logits
        + 4 * shape.vocab_size * shape.hidden_size
        + min(SEEN_BYTES, 8 * tokens * sum(x.d_in + x.d_out for x in shape.block)),
        wanted_bytes=inputs,
        host_bytes=inputs + 4 * shape.vocab_size * shape.hidden_size,
        core_bytes=4 * shape.params + logits,
        output_bytes=SMALL_BYTES,
    )


def proxy(facts: Facts, model: str, fold: str, quantizer: str, proxy: str) -> Work:
    """Return the work of another kind: one score of the model for every linear and width, half of its blocks each."""
    shape, (tokens, length) = facts.shape(model), facts.sensitivity(model)
    scores = len(shape.linears) * facts.bank_widths if "kl" in proxy else 2
    each = block_products(shape, tokens, length) / 2 + head_products(shape, tokens)
    base = sensitivity(facts, model, fold, quantizer)
    return replace(base, float32=scores * each)


def quantize(facts: Facts, model: str, method: str, budget: str) -> Work:
    """Return the work of a final row: a pass of the text through each block as its sites are quantized; none for RTN.

    Where the activations of all windows exceed 2 GiB a block runs again up to each site (2.4 runs of a Llama block).
    """
    shape = facts.shape(model)
    size = facts.row_bytes(model, method, budget)
    rounded = ROUNDING * 4 * shape.linear_params
    if not facts.calibrates(method):
        return Work(
            moved=rounded, core_s=size / HASH_BANDWIDTH, disk=shape.params * shape.float_bytes + 4 * size,
            uses_gpu=True, device_bytes=block_bytes(shape, 0, hessians=False),
            host_bytes=size + 2 * shape.stored_tables("fp16"),
            output_bytes=size, passing_bytes=size, scratch_bytes=size,
        )  # fmt: skip
    work = streamed(facts, model, sequential_passes(facts, model), hessians=True)
    codes = max(rows * d_in for d_in, rows in shape.sites.values())
    sweep = min(SWEEP_BYTES, 8 * codes)
    return replace(
        work,
        float32=work.float32 + gptq(shape, 1),
        moved=work.moved + rounded,
        steps=work.steps + gptq_steps(shape, 1),
        core_s=size / HASH_BANDWIDTH,
        disk=work.disk + 4 * size,
        device_bytes=work.device_bytes + codes + sweep,
        core_bytes=work.core_bytes + codes + sweep,
        host_bytes=work.host_bytes + size + 2 * shape.stored_tables("fp16"),
        output_bytes=size,
        passing_bytes=size,
        scratch_bytes=size,
    )


def quantize_shared(facts: Facts, model: str, method: str, budget: str) -> Work:
    """Return the same work, with the allocation of draw 0."""
    return quantize(facts, model, method, budget)


def track(facts: Facts, model: str, row: str, track: str) -> Work:
    """Return the work of copying a row with embedding and head stored anew."""
    parts = Row.parse(row)
    size = facts.row_bytes(model, parts.method, parts.budget, track)
    return Work(
        disk=5 * size, host_bytes=size + 4 * facts.shape(model).table_params, output_bytes=size, passing_bytes=size,
        core_s=facts.shape(model).table_params / 5e7 + 2 * size / HASH_BANDWIDTH,
    )  # fmt: skip
