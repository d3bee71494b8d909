"""The bit stream against Python's own big integers."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from ramp.quantizers import packing
from ramp.quantizers.affine import QuantizeError, quantize_rtn
from tests.refusals import refused


def codes_of(rows: int, n: int, bits: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2**bits, (rows, n), dtype=torch.uint8, generator=generator)


@given(st.integers(2, 8), st.integers(1, 5), st.integers(1, 67), st.integers(0, 2**31))
def test_stream_is_the_little_endian_integer(bits: int, rows: int, n: int, seed: int) -> None:
    """Row r's bytes are the number sum_i code_i * 2^(bits * i), lowest byte first: nothing of ours computes that."""
    codes = codes_of(rows, n, bits, seed)
    packed = packing.pack_rows(codes, bits)
    for row, row_bytes in zip(codes.tolist(), packed.tolist(), strict=True):
        number = sum(code << (bits * i) for i, code in enumerate(row))
        assert bytes(row_bytes) == number.to_bytes((n * bits + 7) // 8, "little")
    assert torch.equal(packing.unpack_rows(packed, bits, n), codes)


def test_not_contiguous_codes() -> None:
    codes = codes_of(24, 10, 5, 0).T
    assert torch.equal(packing.unpack_rows(packing.pack_rows(codes, 5), 5, 24), codes)


def test_errors() -> None:
    codes = codes_of(2, 8, 4, 0)
    tensors = packing.to_tensors(quantize_rtn(torch.randn(4, 8), 4, 4))
    fewer = {**tensors, "codes": tensors["codes"][:3]}
    calls = {
        "2 bits": lambda: packing.pack_rows(codes | 8, 2),
        "int64 [2, 8]": lambda: packing.pack_rows(codes.long(), 4),
        "9 codes of 4 bits": lambda: packing.unpack_rows(packing.pack_rows(codes, 4), 4, 9),
        "groups of 2": lambda: packing.from_tensors(**tensors, bits=4, group_size=2, d_in=8),
        "numbers of rows": lambda: packing.from_tensors(**fewer, bits=4, group_size=4, d_in=8),
    }
    refused(QuantizeError, calls)
