"""The ggml grid: K-quants and the 32-blocks of llama.cpp (ggml-org/llama.cpp, ggml/src/ggml-quants.c) by ``libgguf``.

Q8_0, the type of every packed checkpoint's embedding, is coded here in torch: a block of 32 weights is one float16
d = max|w| / 127 and 32 signed bytes round(w / d), halves away from zero; w comes back as d * q
(``quantize_row_q8_0_ref``). Unlike gguf's own coder it gives finite codes for blocks of subnormal weights, and it
decodes on a GPU.
"""

from __future__ import annotations

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor

from ramp.quantizers.affine import QuantizeError, label
from ramp.quantizers.sizes import Q8_0_BLOCK, Q8_0_BLOCK_BYTES

TYPES = "Q2_K Q3_K Q4_K Q5_K Q6_K Q4_0 Q5_0 Q5_1 Q8_0 IQ4_NL IQ4_XS IQ3_S IQ3_XXS IQ2_S IQ2_XS IQ2_XXS F16 F32".split()
"""Types that this suite writes. Q4_1 is left out: it reproduces its own source's grid."""

BLOCKS: dict[str, tuple[int, int]] = {name: GGML_QUANT_SIZES[GGMLQuantizationType[name]] for name in TYPES}
"""(weights, bytes) of a type's block."""

TYPE_FOR_BITS: dict[int, str] = {2: "Q2_K", 3: "Q3_K", 4: "Q4_K", 5: "Q5_K", 6: "Q6_K", 8: "Q8_0"}
"""HALO: the ggml type of an allocated width."""

FALLBACKS: dict[str, str] = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    **dict.fromkeys(("IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"), "IQ4_NL"),
}
"""Type that llama.cpp writes where 256 does not divide a row (llama-quant.cpp, ``tensor_type_fallback``), as in the
pinned build; older ones gave IQ4_NL for Q2_K and Q3_K. A test compares with the pinned build."""

NEEDS_IMPORTANCE = frozenset({"IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"})
"""Types that llama.cpp refuses to write without an importance matrix (``tensor_requires_imatrix``). libgguf would
use column sums of w^2 in its place without a warning."""

ROWS_AT_ONCE = 4096
"""Rows of an embedding that are coded together: bounds the temporaries."""


def check_type(type_name: str) -> None:
    """Raise ``QuantizeError`` for a type that this suite does not write."""
    if type_name not in BLOCKS:
        raise QuantizeError(f"unknown ggml type '{type_name}' (known: {', '.join(sorted(BLOCKS))})")


def fallback_type(bits_or_type: int | str, d_in: int) -> str:
    """Return the type of a row of ``d_in`` weights for a requested ``bits_or_type`` (4, or "Q4_K").

    The type itself where its block divides the row; else llama.cpp's fallback of 32-blocks; else F16. (llama.cpp
    stops at a 32-block type that was asked for by name and does not fit; here it is F16 too.)
    """
    if isinstance(bits_or_type, str):
        name = bits_or_type
    elif bits_or_type in TYPE_FOR_BITS:
        name = TYPE_FOR_BITS[bits_or_type]
    else:
        raise QuantizeError(f"no ggml type for {bits_or_type} bits (known: {', '.join(map(str, TYPE_FOR_BITS))})")
    check_type(name)
    for candidate in (name, FALLBACKS.get(name)):
        if candidate is not None and d_in % BLOCKS[candidate][0] == 0:
            return candidate
    return "F16"


def row_bytes(type_name: str, d_in: int) -> int:
    """Return the bytes of a row of ``d_in`` weights; raise ``QuantizeError`` where blocks do not divide it."""
    check_type(type_name)
    count, size = BLOCKS[type_name]
    if d_in % count:
        raise QuantizeError(f"rows of {d_in} weights do not divide into {type_name}'s blocks of {count}")
    return d_in // count * size


def as_float32(weight: Tensor | np.ndarray) -> np.ndarray:
    """Return a contiguous float32 array of a tensor or array."""
    if isinstance(weight, Tensor):
        weight = weight.detach().to("cpu", torch.float32).numpy()
    return np.ascontiguousarray(weight, dtype=np.float32)


def quantize_ggml(
    weight: Tensor | np.ndarray, type_name: str, importance: Tensor | np.ndarray | None = None, *, name: str = ""
) -> np.ndarray:
    """Quantize a float matrix [d_out, d_in] to ``type_name``: uint8 [d_out, row_bytes(type_name, d_in)].

    ``importance`` [d_in] is the mean square of the linear's inputs (llama.cpp's importance matrix); at least 0,
    not all 0. Raises ``QuantizeError`` naming ``name``.
    """
    import libgguf

    rows = as_float32(weight)
    if rows.ndim != 2:
        raise QuantizeError(f"{label(name)} has shape {list(rows.shape)}: only matrices [d_out, d_in] are quantized")
    d_out, d_in = rows.shape
    size = row_bytes(type_name, d_in)
    if not np.isfinite(rows).all():
        raise QuantizeError(f"{label(name)} has weights that are NaN or infinite: the checkpoint is damaged")
    if type_name == "F32":
        return rows.view(np.uint8)
    if type_name == "F16":
        if np.abs(rows).max(initial=0) > np.finfo(np.float16).max:
            raise QuantizeError(f"{label(name)} has weights beyond float16: store it as F32")
        return rows.astype(np.float16).view(np.uint8)
    weights: np.ndarray | None = None
    if importance is not None:
        weights = as_float32(importance)
        if weights.shape != (d_in,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
            raise QuantizeError(
                f"{label(name)}: importance {list(weights.shape)} must be {d_in} finite numbers from 0 up, not all 0"
            )
    elif type_name in NEEDS_IMPORTANCE:
        raise QuantizeError(
            f"{label(name)}: {type_name} needs an importance matrix: calibrate first, or choose another"
        )
    return np.asarray(libgguf.quantize_rows(rows, GGMLQuantizationType[type_name], weights)).reshape(d_out, size)


def q8_0_encode(weight: Tensor, *, name: str = "") -> Tensor:
    """Return float [rows, cols], cols a multiple of 32, as Q8_0 bytes: uint8 [rows, cols / 32 * 34]."""
    size = row_bytes("Q8_0", weight.shape[1])
    packed = torch.empty(weight.shape[0], size, dtype=torch.uint8)
    for start in range(0, weight.shape[0], ROWS_AT_ONCE):
        blocks = weight[start : start + ROWS_AT_ONCE].detach().to("cpu", torch.float32).reshape(-1, Q8_0_BLOCK)
        peak = blocks.abs().amax(1, keepdim=True)
        if not bool(torch.isfinite(peak).all()) or float(peak.max()) / 127 > torch.finfo(torch.float16).max:
            raise QuantizeError(f"{label(name)} has values that are NaN, infinite or too large for Q8_0")
        d = peak / 127
        inverse = 1 / d
        scaled = blocks * torch.where(inverse.isinf(), 0.0, inverse)  # blocks of zeros, and of next to nothing
        whole = scaled.trunc()
        codes = whole + scaled.sign() * ((scaled - whole).abs() >= 0.5)  # C's roundf: halves away from zero
        parts = [d.to(torch.float16).view(torch.uint8), codes.to(torch.int8).view(torch.uint8)]
        packed[start : start + ROWS_AT_ONCE] = torch.cat(parts, 1).view(-1, size)
    return packed


def q8_0_decode(packed: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return Q8_0 bytes uint8 [rows, cols / 32 * 34] as ``dtype`` [rows, cols], on their device."""
    if packed.dtype != torch.uint8 or packed.dim() != 2 or packed.shape[1] % Q8_0_BLOCK_BYTES:
        raise QuantizeError(f"Q8_0 rows are uint8 in whole blocks of {Q8_0_BLOCK_BYTES}, not {list(packed.shape)}")
    columns = packed.shape[1] // Q8_0_BLOCK_BYTES * Q8_0_BLOCK
    values = torch.empty(packed.shape[0], columns, dtype=dtype, device=packed.device)
    for start in range(0, packed.shape[0], ROWS_AT_ONCE):
        blocks = packed[start : start + ROWS_AT_ONCE].reshape(-1, Q8_0_BLOCK_BYTES)
        d = blocks[:, :2].contiguous().view(torch.float16).to(torch.float32)
        codes = blocks[:, 2:].contiguous().view(torch.int8).to(torch.float32)
        values[start : start + ROWS_AT_ONCE] = (d * codes).view(-1, columns).to(dtype)
    return values
