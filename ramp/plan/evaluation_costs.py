"""Costs of the stages that score a model on text: references, rows, tasks, and the short checks of the league."""

from __future__ import annotations

from dataclasses import replace

from ramp.methods.names import FLOAT, RELEASED, UNQUANTIZED
from ramp.plan.calibration_costs import block_bytes, quantize
from ramp.plan.pass_operations import KERNELS, block_products, head_products
from ramp.plan.quantities import Facts
from ramp.plan.work import HASH_BANDWIDTH, Work, compared_again
from ramp.study.model_shape import ModelShape
from ramp.study.row_names import GGML, Row

SLICE_BYTES = 4 << 30
"""Logits of a slice of tokens on a card, twice in the dtype and twice in float32 (``ramp.scoring.kl_divergence``)."""

SOFTMAX = 8
"""Times that a logit is read or written in float32."""

AUTOMATIC_BATCH = 8
"""Answers per forward pass of tasks, as planned where the study leaves their number to the device: a processor's;
a card takes more."""

BATCH_TOKENS, CARD_BATCH = 2048, 16384
"""Tokens of a batch in a forward pass without gradients, on a processor and on a card (of ``ramp.scoring``)."""

DEQUANTIZED_PER_S = 1e8
"""Weights of a GGUF file that one core de-quantizes in a second. Measured on random blocks: 1.2e8 (Q3_K, Q6_K) to 1.7e8
(Q4_K); copies take the rest."""

REQUEST_S = 0.001
"""Seconds of one core for a request of lm-eval, beside the model. Arithmetic."""

COUNTED_PER_S = 4e7
"""Codes that one core unpacks and counts in a second. Measured on rows of the smoke study: 4.2e7 to 5.5e7."""

TASK_START_S = 10.0
"""Seconds for lm-eval's imports and for reading tasks. Measured on the smoke study: 12 to 16 s with 24 requests."""


def scored(facts: Facts, shape: ModelShape, tokens: float, length: int, heads: int) -> Work:
    """Return a forward pass of a model in the study's dtype with so many passes through a head.

    products = 2 * weights + attention + heads * 2 * vocabulary * hidden, per token. Where the model does not fit, its
    blocks are streamed, so that the least memory is that of a block, the head and a slice of logits.
    """
    half = facts.half_bytes(shape)
    batch = min(tokens, BATCH_TOKENS)
    table = shape.vocab_size * shape.hidden_size * half
    logits = min(SLICE_BYTES, 12 * tokens * shape.vocab_size)
    scores = length if half == 4 else 0  # narrower dtypes have a kernel that keeps none
    block = block_bytes(shape, min(tokens, CARD_BATCH), hessians=False, length=scores)
    least = block * half / 4 + 2 * table + logits
    return Work(
        half=block_products(shape, tokens, length) + heads * head_products(shape, tokens),
        moved=SOFTMAX * 4 * heads * tokens * shape.vocab_size + 6 * half * shape.params,
        steps=KERNELS * shape.num_hidden_layers * max(1, tokens / CARD_BATCH),
        uses_gpu=True,
        device_bytes=least,
        wanted_bytes=half * shape.params,
        core_bytes=half * shape.params + table + 30 * batch * shape.intermediate_size,
    )


def reference(facts: Facts, model: str, text: str) -> Work:
    """Return the work of the float model on the windows of a text, once through the head; hidden states are kept."""
    tokens, length = facts.evaluated(model, [text])
    return _reference(facts, facts.shape(model), tokens, length)


def fold_reference(facts: Facts, model: str) -> Work:
    """Return the same work on the windows of the folds' ablation, in float32."""
    places = facts.plan.folds.section.heldout
    return _reference(facts, facts.shape(model), places.windows * places.length, places.length)


def _reference(facts: Facts, shape: ModelShape, tokens: int, length: int) -> Work:
    kept = tokens * shape.hidden_size * facts.half_bytes(shape)
    work = scored(facts, shape, tokens, length, heads=1)
    return replace(
        work, disk=shape.params * shape.float_bytes + kept, host_bytes=work.host_bytes + 2 * kept, output_bytes=kept
    )


def row_file(facts: Facts, model: str, row: str) -> int:
    """Return the bytes that are read to load a row: its own, or the float checkpoint's."""
    parts, shape = Row.parse(row), facts.shape(model)
    if parts.method in UNQUANTIZED:
        return shape.params * shape.float_bytes
    return facts.stored_bytes(model, parts.method, parts.budget)


def reading_s(facts: Facts, model: str, row: str, *, first: bool) -> float:
    """Return the seconds of one core that a row's file takes before its weights are on the device.

    A packed file has a checksum, which its ``first`` reader compares whatever its size; the blocks of a GGUF file are
    de-quantized, by the job's threads.
    """
    parts = Row.parse(row)
    if parts.method in UNQUANTIZED:
        return 0.0
    if parts.ending == GGML:
        return facts.shape(model).params / DEQUANTIZED_PER_S / facts.plan.study.threads
    size = row_file(facts, model, row)
    return size / HASH_BANDWIDTH if first else compared_again(size)


def evaluate(facts: Facts, model: str, row: str) -> Work:
    """Return the work of a row on all texts of its model: a pass through its own head, and one of the reference's
    states through the float one. The file of a row is read twice, for its checksum and its weights."""
    parts, shape = Row.parse(row), facts.shape(model)
    if parts.method == RELEASED or parts.method in facts.plan.unable:
        return Work(output_bytes=1e4)  # the float row's scores, or a reason
    tokens, length = facts.evaluated(model)
    work = scored(facts, shape, tokens, length, heads=2)
    states = tokens * shape.hidden_size * facts.half_bytes(shape)
    return replace(
        work, core_s=reading_s(facts, model, row, first=True), disk=2 * row_file(facts, model, row) + states,
        host_bytes=work.host_bytes + states, output_bytes=1e5,
    )  # fmt: skip


def noise_run(facts: Facts, model: str, variation: str) -> Work:
    """Return the work of the float model on held-out text against its own reference: that of a row."""
    return evaluate(facts, model, f"{FLOAT}-b16-s0")


def entropy_collect(facts: Facts) -> Work:
    """Return the work of unpacking and counting the codes of every packed row, linear by linear on one core."""
    rows = [row for row in facts.plan.rows if facts.plan.has_weights(row)]
    shapes = [facts.shape(row.model) for row in rows]
    return Work(
        core_s=sum(shape.params for shape in shapes) / COUNTED_PER_S,
        disk=sum(facts.row_bytes(row.model, row.method, row.budget) for row in rows),
        host_bytes=300 << 20,
        output_bytes=1e4,
    )


def tasks_scored(facts: Facts, model: str, row: str) -> Work:
    """Return the work of every answer of every task: the whole model, in batches; logits of all tokens in float32.

    products = 2 * (weights + head) per token; 30 small operations per block and batch; 1 ms of a core per request.
    """
    shape = facts.shape(model)
    half = facts.half_bytes(shape)
    requests, tokens = facts.tasks()
    batch = facts.plan.study.tasks.batch or AUTOMATIC_BATCH
    length = tokens / max(1, requests)
    return Work(
        half=block_products(shape, tokens, int(length)) + head_products(shape, tokens),
        moved=SOFTMAX * 4 * tokens * shape.vocab_size + 6 * half * shape.params,
        steps=KERNELS * shape.num_hidden_layers * requests / batch,
        core_s=TASK_START_S + REQUEST_S * requests + reading_s(facts, model, row, first=False),
        disk=2 * row_file(facts, model, row),
        uses_gpu=True,
        device_bytes=half * shape.params + batch * 4 * length * (2 * shape.intermediate_size + 3 * shape.vocab_size),
        host_bytes=256 << 20,
        core_bytes=half * shape.params,
        output_bytes=1e6,
    )


def tune(facts: Facts, model: str, row: str) -> Work:
    """Return the work of training a row's scales: the float model forward once, the row forward and back, in float32.

    products = 4 * (weights + head) per token: a backward pass to the activations costs what a forward pass does, and
    the scales' gradients as much again. Two bytes a weight are held, and the activations of one window.
    """
    section, shape = facts.plan.tuning.section, facts.shape(model)
    tokens, length = section.steps * section.batch * section.length, section.length
    window = 4 * length * (shape.num_hidden_layers * (8 * shape.hidden_size + 4 * shape.intermediate_size))
    held = 2 * shape.params + window + SOFTMAX * 4 * length * shape.vocab_size
    size = row_file(facts, model, row)
    return Work(
        float32=4 * (block_products(shape, tokens, length) + head_products(shape, tokens)),
        moved=3 * SOFTMAX * 4 * tokens * shape.vocab_size,
        steps=3 * KERNELS * shape.num_hidden_layers * section.steps * section.batch,
        disk=shape.params * shape.float_bytes + 4 * size,
        uses_gpu=True,
        device_bytes=held,
        host_bytes=256 << 20,
        core_bytes=held,
        output_bytes=size,
        passing_bytes=size,
    )


def acceptance(facts: Facts, model: str) -> Work:
    """Return the work of a model rounded to one width and scored once on selection text."""
    text = facts.plan.league.search()
    return scored(facts, facts.shape(model), 2 * text.windows * text.length, text.length, heads=2)


def fold_run(facts: Facts, model: str, file: str, method: str, bits: str) -> Work:
    """Return the work of a uniform row on one fold, quantized and scored on the ablation's windows."""
    places = facts.plan.folds.section.heldout
    tokens = places.windows * places.length
    work = scored(facts, facts.shape(model), tokens, places.length, heads=2)
    if method == FLOAT:
        return replace(work, output_bytes=1e5)
    made = quantize(facts, model, method, bits)
    return replace(
        made, half=work.half, moved=made.moved + work.moved, steps=made.steps + work.steps, output_bytes=1e5,
        passing_bytes=0,
        device_bytes=max(made.device_bytes, work.device_bytes), core_bytes=max(made.core_bytes, work.core_bytes),
    )  # fmt: skip
