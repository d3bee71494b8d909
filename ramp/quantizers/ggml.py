"""The ggml grid: K-quants and the 32-blocks of llama.cpp, through ``libgguf``'s kernels, read back by ``gguf``.

Q8_0 is written out here from its published layout, because every packed checkpoint stores its embedding so: a block
of 32 weights is one float16 d = max|w| / 127 and 32 signed bytes round(w / d), halves away from zero; w comes back
as d * q. (llama.cpp, ggml/src/ggml-quants.c, ``quantize_row_q8_0_ref``.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ramp.quantizers.affine import QuantizeError, label
from ramp.quantizers.sizes import Q8_0_BLOCK, Q8_0_BLOCK_BYTES

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

BLOCKS: dict[str, tuple[int, int]] = {
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "Q4_0": (32, 18),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (Q8_0_BLOCK, Q8_0_BLOCK_BYTES),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
    "IQ3_S": (256, 110),
    "IQ3_XXS": (256, 98),
    "IQ2_S": (256, 82),
    "IQ2_XS": (256, 74),
    "IQ2_XXS": (256, 66),
    "F16": (1, 2),
    "F32": (1, 4),
}
"""Types that this suite writes: (weights, bytes) of a block. Q4_1 is left out: it reproduces its own source's grid."""

BITS_PER_WEIGHT: dict[str, float] = {name: 8 * size / count for name, (count, size) in BLOCKS.items()}
"""True bits per weight, scales included: Q2_K 2.625, Q3_K 3.4375, Q4_K 4.5, Q5_K 5.5, Q6_K 6.5625, Q8_0 8.5..."""

TYPE_FOR_BITS: dict[int, str] = {2: "Q2_K", 3: "Q3_K", 4: "Q4_K", 5: "Q5_K", 6: "Q6_K", 8: "Q8_0"}
"""HALO's map from an allocated width to a ggml type."""

FALLBACKS: dict[str, str] = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "IQ4_XS": "IQ4_NL",
    "IQ3_S": "IQ4_NL",
    "IQ3_XXS": "IQ4_NL",
    "IQ2_S": "IQ4_NL",
    "IQ2_XS": "IQ4_NL",
    "IQ2_XXS": "IQ4_NL",
}
"""What llama.cpp writes where 256 does not divide a row (llama-quant.cpp, ``tensor_type_fallback``), as the pinned
build does it; older ones gave IQ4_NL for Q2_K and Q3_K. A test asks the pinned build."""

NEEDS_IMPORTANCE = frozenset({"IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"})
"""Types that llama.cpp refuses to write without an importance matrix (``tensor_requires_imatrix``). libgguf would
put column sums of w^2 in its place without a word."""

ROWS_AT_ONCE = 4096
"""Rows of an embedding that are coded together, so that temporaries stay small beside the table."""


def check_type(type_name: str) -> None:
    """Raise ``QuantizeError`` for a type that this suite does not write."""
    if type_name not in BLOCKS:
        raise QuantizeError(f"unknown ggml type '{type_name}' (known: {', '.join(sorted(BLOCKS))})")


def ggml_type(type_name: str) -> GGMLQuantizationType:
    """The ``gguf`` enumeration's member of that name."""
    from gguf import GGMLQuantizationType

    check_type(type_name)
    return GGMLQuantizationType[type_name]


def fallback_type(bits_or_type: int | str, d_in: int) -> str:
    """The type that a row of ``d_in`` weights gets when ``bits_or_type`` (4, or "Q4_K") is asked for.

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
    """Bytes of a row of ``d_in`` weights; ``QuantizeError`` where the block does not divide it."""
    check_type(type_name)
    count, size = BLOCKS[type_name]
    if d_in % count:
        raise QuantizeError(f"rows of {d_in} weights do not divide into {type_name}'s blocks of {count}")
    return d_in // count * size


def as_float32(weight: Tensor | np.ndarray) -> np.ndarray:
    """A contiguous float32 array of a tensor or array."""
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
    qtype: Any = ggml_type(type_name)
    packed = np.asarray(libgguf.quantize_rows(rows, qtype, weights))
    return packed.reshape(d_out, size)


def dequantize_ggml(packed: np.ndarray, type_name: str) -> np.ndarray:
    """The inverse: uint8 [d_out, row_bytes] -> float32 [d_out, d_in], by ``gguf``'s own reader."""
    from gguf.quants import dequantize

    data = np.ascontiguousarray(packed, dtype=np.uint8)
    count, size = BLOCKS.get(type_name, (0, 0))
    check_type(type_name)
    if data.ndim != 2 or data.shape[1] % size:
        raise QuantizeError(f"{type_name} rows are whole blocks of {size} bytes for {count}, not {list(data.shape)}")
    if type_name in ("F16", "F32"):
        return data.view(np.float16 if type_name == "F16" else np.float32).astype(np.float32)
    return np.asarray(dequantize(data, ggml_type(type_name)), dtype=np.float32)


def q8_0_encode(weight: Tensor, *, name: str = "") -> Tensor:
    """float [rows, cols], cols a multiple of 32 -> Q8_0 bytes, uint8 [rows, cols / 32 * 34]."""
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
    """Q8_0 bytes uint8 [rows, cols / 32 * 34] -> ``dtype`` [rows, cols], on packed's device."""
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
