"""Table of the accountings behind "3.65 bits" and "3.68 GB": arithmetic on the shapes of Llama-2-7B."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels

LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY = 32, 4096, 11008, 32000
"""Llama-2-7B, from its published config.json (all attention heads have their own key and value)."""

LINEAR_WEIGHTS = LAYERS * (4 * HIDDEN**2 + 3 * HIDDEN * INTERMEDIATE)
EMBEDDING_WEIGHTS = VOCABULARY * HIDDEN
NORM_WEIGHTS = (2 * LAYERS + 1) * HIDDEN
PARAMETERS = LINEAR_WEIGHTS + 2 * EMBEDDING_WEIGHTS + NORM_WEIGHTS

LABEL_BITS = {3: 3.4375, 4: 4.5, 5: 5.5, 6: 6.5625}
"""True bits per weight of Q3_K, Q4_K, Q5_K, Q6_K (llama.cpp's block layouts)."""

BITS = 3.65
PAPER_GB, AWQ_GB = 3.68, 3.90

SAVED_GB = LINEAR_WEIGHTS * (4 - BITS) / 8e9
"""What 3.65 bits save over 4 where the overhead of both is the same: the paper's sizes differ by 0.22 GB."""


@dataclass(frozen=True)
class Reading:
    """One way to count: bits per weight of the linears (a range), of the embedding and of the head."""

    text: str
    linear_bits: tuple[float, float]
    embedding_bits: float = 16.0
    head_bits: float = 16.0
    norm_bits: float = 16.0

    def gigabytes(self) -> tuple[float, float]:
        """Return lowest and highest size, GB = 1e9 bytes."""
        rest = EMBEDDING_WEIGHTS * (self.embedding_bits + self.head_bits) + NORM_WEIGHTS * self.norm_bits
        low, high = ((LINEAR_WEIGHTS * bits + rest) / 8e9 for bits in self.linear_bits)
        return low, high


def label_mixture_bits(mean_label: float) -> tuple[float, float]:
    """Return lowest and highest true width of K-quants whose labels average ``mean_label``.

    The true width is linear in the shares of the types, so its extremes lie at mixtures of two labels.
    """
    found = []
    for low in LABEL_BITS:
        for high in LABEL_BITS:
            if low < mean_label < high:
                share = (mean_label - low) / (high - low)
                found.append((1 - share) * LABEL_BITS[low] + share * LABEL_BITS[high])
    return min(found), max(found)


IQ4_XS = Reading(
    "llama.cpp's IQ4_XS mix with an importance matrix (Q6_K head)", (4.25, 4.25), 4.25, LABEL_BITS[6], 32.0
)
"""The mix by llama.cpp's own rules: without a matrix some of its linears are wider."""


def readings() -> Iterator[Reading]:
    """Yield the readings of "3.65 bits", one row each."""
    k_quants = label_mixture_bits(BITS)
    yield Reading("3.65 bits on every parameter", (BITS, BITS), BITS, BITS, BITS)
    yield Reading("3.65 bits on the linears, overhead inside; fp16 embedding and head", (BITS, BITS))
    awq = BITS + (16 + 4) / 128
    yield Reading("+ fp16 scale and 4-bit zero per 128 weights (AWQ packing)", (awq, awq))
    wide = BITS + (16 + 16) / 128
    yield Reading("+ fp16 scale and fp16 zero per 128 weights", (wide, wide))
    yield Reading("K-quants whose labels average 3.65; fp16 embedding, Q6_K head", k_quants, 16.0, 6.5625, 32.0)
    yield Reading("the same; Q4_K embedding, Q6_K head", k_quants, 4.5, 6.5625, 32.0)
    uniform = 4 + (16 + 4) / 128
    yield Reading("uniform 4 bit in AWQ packing; fp16 embedding and head", (uniform, uniform))
    yield Reading("uniform 4 bit in AWQ packing; Q4_K embedding, Q6_K head", (uniform, uniform), 4.5, 6.5625)
    yield IQ4_XS


def sizes_table() -> Table:
    """Return every reading with its size and its distance from the paper's 3.68 GB and 3.90 GB."""
    rows = []
    for reading in readings():
        low, high = reading.gigabytes()
        size = f"{low:.3f}" if high - low < 5e-4 else f"{low:.3f} to {high:.3f}"
        rows.append(Row({"reading": reading.text, "gb": size, "paper": low - PAPER_GB, "awq": low - AWQ_GB}))
    columns = (
        *labels("reading"),
        Column("gb", "size", "GB"),
        Column("paper", "less 3.68", "GB", digits=3, signed=True),
        Column("awq", "less 3.90", "GB", digits=3, signed=True),
    )
    weights = {"linears": LINEAR_WEIGHTS, "embedding": EMBEDDING_WEIGHTS, "norms": NORM_WEIGHTS}
    words = caption("sizes", parameters=PARAMETERS, **weights)
    return Table("sizes", columns=columns, rows=tuple(rows), **words)
