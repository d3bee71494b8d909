"""Codes of 2 to 8 bits as a little-endian bit stream.

Code i of a stream takes the stream's bits i*b .. i*b + b - 1, lowest bit first; bit k of the stream is bit
k % 8 of byte k // 8. Eight codes fill exactly b bytes, which is what makes the packing vectorise: the eight
positions are a loop of constant length, all else is tensor operations.

| tensor | stream |
| --- | --- |
| codes | one per row, padded with zero bits to a whole byte |
| zeros | one over the flattened [d_out, n_groups] tensor |
| scales | float16 as they are |
"""

from __future__ import annotations

import torch
from torch import Tensor

from ramp.quantizers.affine import QuantizedLinear, QuantizeError


def packed_length(n: int, bits: int) -> int:
    """Return the bytes of a stream of ``n`` codes."""
    return (n * bits + 7) // 8


def pack_rows(codes: Tensor, bits: int) -> Tensor:
    """Pack codes uint8 [rows, n] -> uint8 [rows, ceil(n * bits / 8)]; raise ``QuantizeError`` for a wider code."""
    if codes.dtype != torch.uint8 or codes.dim() != 2:
        raise QuantizeError(f"codes to pack are {codes.dtype} {list(codes.shape)}: give uint8 [rows, n]")
    if codes.numel() and int(codes.max()) >= 2**bits:
        raise QuantizeError(f"code {int(codes.max())} does not fit in {bits} bits")
    if bits == 8:
        return codes.contiguous().clone()
    rows, n = codes.shape
    if n % 8:
        codes = torch.nn.functional.pad(codes, (0, 8 - n % 8))
    eights = codes.reshape(rows, -1, 8)
    packed = torch.zeros(rows, eights.shape[1], bits, dtype=torch.uint8, device=codes.device)
    for position in range(8):
        byte, shift = divmod(position * bits, 8)
        code = eights[..., position]
        packed[..., byte] |= code << shift  # bits that leave the byte are dropped...
        if shift + bits > 8:
            packed[..., byte + 1] |= code >> (8 - shift)  # ...and stored in the next one
    return packed.view(rows, -1)[:, : packed_length(n, bits)].contiguous()


def unpack_rows(packed: Tensor, bits: int, n: int) -> Tensor:
    """Unpack uint8 [rows, ceil(n * bits / 8)] -> codes uint8 [rows, n]; the inverse of ``pack_rows``."""
    length = packed_length(n, bits)
    if packed.dtype != torch.uint8 or packed.dim() != 2 or packed.shape[1] != length:
        raise QuantizeError(
            f"packed codes are {packed.dtype} {list(packed.shape)}: {n} codes of {bits} bits are uint8 [rows, {length}]"
        )
    if bits == 8:
        return packed.contiguous().clone()
    rows, eights = packed.shape[0], (n + 7) // 8
    if length != eights * bits:
        packed = torch.nn.functional.pad(packed, (0, eights * bits - length))
    groups = packed.reshape(rows, eights, bits)
    codes = torch.empty(rows, eights, 8, dtype=torch.uint8, device=packed.device)
    for position in range(8):
        byte, shift = divmod(position * bits, 8)
        code = groups[..., byte] >> shift
        if shift + bits > 8:
            code |= groups[..., byte + 1] << (8 - shift)
        codes[..., position] = code & (2**bits - 1)
    return codes.view(rows, -1)[:, :n].contiguous()


def pack_flat(codes: Tensor, bits: int) -> Tensor:
    """Pack codes uint8, any shape -> uint8 [ceil(numel * bits / 8)]: one stream over the flattened tensor."""
    return pack_rows(codes.reshape(1, -1), bits).view(-1)


def unpack_flat(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """Unpack what ``pack_flat`` packed: uint8 of ``shape``."""
    return unpack_rows(packed.reshape(1, -1), bits, int(torch.Size(shape).numel())).view(shape)


def to_tensors(q: QuantizedLinear) -> dict[str, Tensor]:
    """Pack into ``codes`` uint8 [d_out, bytes], ``scales`` float16 [d_out, n_groups], ``zeros`` uint8 [bytes]."""
    return {"codes": pack_rows(q.codes, q.bits), "scales": q.scales.contiguous(), "zeros": pack_flat(q.zeros, q.bits)}


def from_tensors(
    codes: Tensor, scales: Tensor, zeros: Tensor, *, bits: int, group_size: int, d_in: int
) -> QuantizedLinear:
    """Unpack what ``to_tensors`` packed, bit for bit; raise ``QuantizeError`` for contradicting shapes."""
    if scales.dim() != 2 or scales.dtype != torch.float16 or scales.shape[1] * group_size != d_in:
        raise QuantizeError(
            f"scales are {scales.dtype} {list(scales.shape)}: rows of {d_in} in groups of {group_size} "
            f"have float16 [d_out, {d_in // group_size}]"
        )
    if codes.dim() != 2 or codes.shape[0] != scales.shape[0]:
        raise QuantizeError(f"codes {list(codes.shape)} and scales {list(scales.shape)} have different numbers of rows")
    return QuantizedLinear(
        codes=unpack_rows(codes, bits, d_in),
        scales=scales,
        zeros=unpack_flat(zeros, bits, tuple(scales.shape)),
        bits=bits,
        group_size=group_size,
    )
