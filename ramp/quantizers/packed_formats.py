"""Readers of GPTQ's and AWQ's packed int32 words, and of weights that lie on a known grid.

numpy only: it imports in the environments of external packages. Layouts, for codes of b bits:

GPTQ (auto-gptq, GPTQModel)
    qweight int32 [d_in * b / 32, d_out], a stream down each column; qzeros int32 [n_groups, d_out * b / 32], a stream
    along each row (version 1 stores zero - 1, version 2 the zero); scales [n_groups, d_out]; g_idx int32 [d_in]
AWQ (autoawq, "gemm"), 4 bits
    qweight int32 [d_in, d_out / 8], eight columns to a word in the order 0 2 4 6 1 3 5 7; qzeros int32
    [n_groups, d_out / 8] in the same order; scales [n_groups, d_out]

A stream is little-endian: code i takes bits i * b to (i + 1) * b of the words laid end to end, so that a 3-bit code may
lie across two words. Every function returns our order: codes [d_out, d_in], scales and zeros [d_out, n_groups].
The layouts are those of auto-gptq 0.7.1 (``qlinear_cuda``) and of autoawq 0.2.9 (``WQLinear_GEMM``).
"""

from __future__ import annotations

import numpy as np

from ramp.core.errors import RampError

AWQ_BITS = 4
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Column of a block of eight that lies in nibble 0, 1, ... 7 of its word, lowest bits first."""

ON_GRID = 0.02
"""Largest distance of a de-quantized weight from a whole code, in steps. Rounding to float16 moves a weight of a 4-bit
grid by at most 15 * 2^-11 = 0.007 of a step; a wrong scale or zero-point moves it by anything."""


class PackedFormatError(RampError):
    """A packed tensor whose shape or content contradicts its format."""


def unpack_words(words: np.ndarray, bits: int) -> np.ndarray:
    """Return streams of b-bit codes in int32 words [rows, n_words] as uint8 [rows, n_words * 32 / bits]."""
    if words.dtype != np.int32 or words.ndim != 2:
        raise PackedFormatError(f"packed words are {words.dtype} {list(words.shape)}: int32 [rows, n_words] expected")
    if not 1 <= bits <= 8 or words.shape[1] * 32 % bits:
        raise PackedFormatError(f"{words.shape[1]} words of 32 bits hold no whole number of {bits}-bit codes")
    stream = np.ascontiguousarray(words).astype("<i4").view(np.uint8)
    single = np.unpackbits(stream, axis=1, bitorder="little").reshape(words.shape[0], -1, bits)
    return np.packbits(single, axis=2, bitorder="little")[..., 0]


def _grid(scales: np.ndarray, n_groups: int, d_out: int) -> np.ndarray:
    """Return scales [n_groups, d_out] as [d_out, n_groups], after a check of the shape."""
    if scales.shape != (n_groups, d_out):
        raise PackedFormatError(f"scales are {list(scales.shape)}: [{n_groups}, {d_out}] expected")
    return np.ascontiguousarray(scales.T)


def unpack_gptq(
    qweight: np.ndarray,
    qzeros: np.ndarray,
    scales: np.ndarray,
    bits: int,
    *,
    g_idx: np.ndarray | None = None,
    v1: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes uint8 [d_out, d_in], scales and zeros int16 [d_out, n_groups] of a GPTQ file's linear.

    v1: the file stores zero - 1. Zero-points 0 and 2^bits look alike there; both come back as 2^bits, which no
    grid of ours takes. g_idx: int32 [d_in], group of each column; refused where groups are not runs of columns (GPTQ
    with act-order but without static groups), because no other format of ours has that.
    """
    codes = unpack_words(np.ascontiguousarray(qweight.T), bits)
    zeros = unpack_words(qzeros, bits).astype(np.int16) + int(v1)
    d_out, d_in = codes.shape
    n_groups = qzeros.shape[0]
    group_size = -(-d_in // n_groups)
    if g_idx is not None and not np.array_equal(g_idx, np.arange(d_in) // group_size):
        raise PackedFormatError("the groups of this GPTQ file are not runs of columns: quantize with static groups")
    if zeros.shape[1] != d_out:
        raise PackedFormatError(f"zero-points for {zeros.shape[1]} rows, weights for {d_out}")
    return codes, _grid(scales, n_groups, d_out), np.ascontiguousarray(zeros.T)


def unpack_awq(
    qweight: np.ndarray, qzeros: np.ndarray, scales: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes uint8 [d_out, d_in], scales and zeros uint8 [d_out, n_groups] of an AWQ file's linear."""
    codes, zeros = (_in_order(unpack_words(words, AWQ_BITS)) for words in (qweight, qzeros))
    if zeros.shape[1] != codes.shape[1]:
        raise PackedFormatError(f"zero-points for {zeros.shape[1]} rows, weights for {codes.shape[1]}")
    return (
        np.ascontiguousarray(codes.T),
        _grid(scales, qzeros.shape[0], codes.shape[1]),
        np.ascontiguousarray(zeros.T),
    )


def _in_order(nibbles: np.ndarray) -> np.ndarray:
    """Return nibbles [rows, 8 * n] in the order of the columns instead of that of AWQ's words."""
    blocks = nibbles.reshape(nibbles.shape[0], -1, len(AWQ_ORDER))
    return blocks[:, :, np.argsort(AWQ_ORDER)].reshape(nibbles.shape)


def codes_on_grid(
    weight: np.ndarray, scales: np.ndarray, zeros: np.ndarray, bits: int, *, name: str = "the weight"
) -> np.ndarray:
    """Return the codes uint8 [d_out, d_in] of a de-quantized weight: round(weight / scale) + zero, for each group.

    weight: float [d_out, d_in], which lies on the grid up to rounding; scales: float [d_out, n_groups], the very ones
    that made it (before any rounding to float16); zeros: [d_out, n_groups]. Raises ``PackedFormatError`` where a weight
    lies between two codes or outside the width: then the scales are not its own.
    """
    d_out, d_in = weight.shape
    n_groups = scales.shape[1]
    if zeros.shape != scales.shape or scales.shape[0] != d_out or d_in % n_groups:
        raise PackedFormatError(
            f"{name}: scales {list(scales.shape)}, zeros {list(zeros.shape)}, weight {[d_out, d_in]}"
        )
    steps = weight.reshape(d_out, n_groups, -1).astype(np.float64) / scales.astype(np.float64)[..., None]
    codes = np.rint(steps)
    away = float(np.abs(steps - codes).max(initial=0.0))
    codes += zeros.astype(np.float64)[..., None]
    low, high = float(codes.min(initial=0.0)), float(codes.max(initial=0.0))
    if not away <= ON_GRID or low < 0 or high >= 2**bits:
        raise PackedFormatError(
            f"{name} is not on its grid: {away:.3g} of a step off, codes from {low:.0f} to {high:.0f} at {bits} bits"
        )
    return codes.reshape(d_out, d_in).astype(np.uint8)
