"""The bit stream against Python's own big integers, and against a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ramp.quantizers import packing
from ramp.quantizers.affine import QuantizedLinear, QuantizeError, quantize_rtn


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


@given(st.integers(2, 8), st.integers(1, 7), st.integers(1, 9), st.integers(0, 2**31))
def test_flat_round_trip(bits: int, rows: int, columns: int, seed: int) -> None:
    codes = codes_of(rows, columns, bits, seed)
    packed = packing.pack_flat(codes, bits)
    assert packed.shape == ((rows * columns * bits + 7) // 8,)
    assert torch.equal(packing.unpack_flat(packed, bits, (rows, columns)), codes)


def test_not_contiguous_codes() -> None:
    codes = codes_of(24, 10, 5, 0).T
    assert torch.equal(packing.unpack_rows(packing.pack_rows(codes, 5), 5, 24), codes)


def equal(a: QuantizedLinear, b: QuantizedLinear) -> bool:
    same = (a.bits, a.group_size) == (b.bits, b.group_size)
    return same and all(torch.equal(getattr(a, x), getattr(b, x)) for x in ("codes", "scales", "zeros"))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("d_in", [6, 12, 172])
def test_bit_identical_after_save_and_load(bits: int, d_in: int, tmp_path: Path) -> None:
    weight = torch.randn(7, d_in, generator=torch.Generator().manual_seed(bits))
    q = quantize_rtn(weight, bits, 2)
    save_file(packing.to_tensors(q), tmp_path / "q.safetensors")
    loaded = packing.from_tensors(**load_file(tmp_path / "q.safetensors"), bits=bits, group_size=2, d_in=d_in)
    assert equal(loaded, q)
    assert torch.equal(loaded.dequantize(), q.dequantize())


def test_errors() -> None:
    codes = codes_of(2, 8, 4, 0)
    with pytest.raises(QuantizeError, match="does not fit in 2 bits"):
        packing.pack_rows(codes | 8, 2)
    with pytest.raises(QuantizeError, match=r"torch.int64 \[2, 8\]"):
        packing.pack_rows(codes.long(), 4)
    with pytest.raises(QuantizeError, match=r"9 codes of 4 bits are uint8 \[rows, 5\]"):
        packing.unpack_rows(packing.pack_rows(codes, 4), 4, 9)
    tensors = packing.to_tensors(quantize_rtn(torch.randn(4, 8), 4, 4))
    with pytest.raises(QuantizeError, match="rows of 8 in groups of 2"):
        packing.from_tensors(**tensors, bits=4, group_size=2, d_in=8)
    with pytest.raises(QuantizeError, match="different numbers of rows"):
        packing.from_tensors(tensors["codes"][:3], tensors["scales"], tensors["zeros"], bits=4, group_size=4, d_in=8)
