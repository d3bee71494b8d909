"""Operations of a model's passes, from its sizes: two for every multiplication with its addition."""

from __future__ import annotations

from ramp.study.model_shape import ModelShape

KERNELS = 30
"""Small operations that one decoder block launches in a forward pass."""

MOMENTS = 9 / 8
"""Operations of X^T X per token and entry: symmetric, strips from the diagonal on are 9/16 of the work."""

COLUMN_STEPS = 6
"""Small operations for one column of GPTQ: rounding it at its sum, and its error into the next ones."""


def block_products(shape: ModelShape, tokens: float, length: int) -> float:
    """Return the operations of all decoder blocks: 2 per weight and token, and causal attention within a window.

    A token attends to half of its window on average: 2 * 2 * length / 2 for each query channel, scores and values.
    """
    attention = 2 * length * shape.query_width * shape.num_hidden_layers
    return tokens * (2 * shape.linear_params + attention)


def head_products(shape: ModelShape, tokens: float) -> float:
    """Return the operations of one pass through the head."""
    return tokens * 2 * shape.vocab_size * shape.hidden_size


def moments(shape: ModelShape, tokens: float) -> float:
    """Return the operations of the second moments of every site's input."""
    return tokens * MOMENTS * shape.num_hidden_layers * sum(d_in**2 for d_in, _ in shape.sites.values())


def site_errors(shape: ModelShape, rows: int | None = None) -> float:
    """Return the operations of tr(D H D^T) over all linears, on at most ``rows`` output rows of each."""
    each = (2 * min(x.d_out, rows or x.d_out) * x.d_in**2 for x in shape.block)
    return shape.num_hidden_layers * sum(each)


def gptq(shape: ModelShape, widths: int) -> float:
    """Return the operations of GPTQ at so many widths: factors of Hessians, errors carried to later columns."""
    carried = sum(rows * d_in**2 for d_in, rows in shape.sites.values())
    factors = sum(d_in**3 for d_in, _ in shape.sites.values())
    return shape.num_hidden_layers * (widths * carried + factors)


def gptq_steps(shape: ModelShape, widths: int, sweep_bytes: int = 1 << 29) -> float:
    """Return GPTQ's small operations: every sweep over a site's columns, as many rows at once as ``sweep_bytes`` hold.

    As ``ramp.quantizers.gptq.quantize_gptq_site``: two float32 copies of the rows.
    """
    total = 0
    for d_in, rows in shape.sites.values():
        at_once = max(1, sweep_bytes // (8 * d_in))
        total += COLUMN_STEPS * d_in * -(-rows * widths // at_once)
    return float(shape.num_hidden_layers * total)


def site_share(shape: ModelShape, kind: str) -> float:
    """Return the share of a block's products that run before a site's input is there."""
    before = {"attn_in": "", "o_in": "q k v", "mlp_in": "q k v o", "down_in": "q k v o gate up"}[kind].split()
    whole = sum(x.params for x in shape.block)
    return sum(x.params for x in shape.block if x.role in before) / whole
