"""Files of GPTQ and AWQ packages, unpacked: against a plain packing loop, word by word, as the formats say it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ramp.package_formats import AWQ_ORDER, Checkpoint, changed, unpack_awq, unpack_gptq, unpack_stream
from ramp.packages import PackageError


def pack_stream(codes: np.ndarray, bits: int) -> np.ndarray:
    """The slow way: each row one big integer, cut into 32-bit words."""
    rows = []
    for row in codes:
        whole = sum(int(code) << (bits * i) for i, code in enumerate(row))
        words = [(whole >> (32 * i)) & 0xFFFFFFFF for i in range(len(row) * bits // 32)]
        rows.append(np.array(words, dtype=np.uint32).view(np.int32))
    return np.stack(rows)


@settings(max_examples=30, deadline=None)
@given(bits=st.sampled_from([2, 3, 4, 8]), rows=st.integers(1, 3), words=st.integers(1, 2), seed=st.integers(0, 99))
def test_streams(bits: int, rows: int, words: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, 32 * words)).astype(np.uint8)
    np.testing.assert_array_equal(unpack_stream(pack_stream(codes, bits), bits), codes)


def test_three_bits_cross_words_as_gptq_lays_them_out() -> None:
    """Code 10 takes the two top bits of the first word and the lowest of the second (IST-DASLab/gptq, 3 bits)."""
    words = np.array([[0b11 << 30, 0b1, 0]], dtype=np.uint32).view(np.int32)
    codes = unpack_stream(words, 3)
    assert codes.shape == (1, 32)
    assert codes[0, 10] == 7
    assert codes.sum() == 7


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("first_version", [True, False])
def test_gptq(bits: int, first_version: bool) -> None:
    rng = np.random.default_rng(bits)
    d_out, d_in, group = 32, 64, 32
    codes = rng.integers(0, 2**bits, (d_out, d_in)).astype(np.uint8)
    zeros = rng.integers(0, 2**bits, (d_out, d_in // group)).astype(np.uint8)
    zeros[0] = 0  # stored as 2^bits - 1 in the first version
    scales = rng.uniform(0.01, 1, (d_out, d_in // group)).astype(np.float16)
    stored = (zeros.astype(int) - first_version) % 2**bits
    found = unpack_gptq(
        pack_stream(codes, bits).T,
        pack_stream(stored.T, bits),
        scales.T,
        np.arange(d_in) // group,
        bits,
        zeros_minus_one=first_version,
    )
    for name, want in (("codes", codes), ("scales", scales), ("zeros", zeros)):
        np.testing.assert_array_equal(getattr(found, name), want, err_msg=name)
    assert found.group_size == group


def test_groups_in_activation_order_are_refused() -> None:
    words = np.zeros((8, 32), dtype=np.int32)
    order = np.repeat([1, 0], 32)
    with pytest.raises(PackageError, match="activation order"):
        unpack_gptq(words, words[:2, :4], np.ones((2, 32)), order, 4, zeros_minus_one=True)


def test_awq() -> None:
    rng = np.random.default_rng(1)
    d_out, d_in, group = 16, 64, 32
    codes = rng.integers(0, 16, (d_out, d_in)).astype(np.uint8)
    zeros = rng.integers(0, 16, (d_out, d_in // group)).astype(np.uint8)
    scales = rng.uniform(0.01, 1, (d_out, d_in // group)).astype(np.float16)

    def pack(values: np.ndarray) -> np.ndarray:
        """As llm-awq's loop: nibble i of word c is column 8 c + AWQ_ORDER[i]."""
        out = np.zeros((values.shape[1], d_out // 8), dtype=np.uint32)
        for word in range(d_out // 8):
            for i, place in enumerate(AWQ_ORDER):
                out[:, word] |= values[8 * word + place].astype(np.uint32) << np.uint32(4 * i)
        return out.view(np.int32)

    found = unpack_awq(pack(codes), pack(zeros), scales.T)
    np.testing.assert_array_equal(found.codes, codes)
    np.testing.assert_array_equal(found.zeros, zeros)
    np.testing.assert_array_equal(found.scales, scales)
    assert found.group_size == group


def test_a_folder_of_files_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    save_file({"a": values, "b": values.to(torch.bfloat16)}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(tmp_path)
    assert set(checkpoint) == {"a", "b"}
    assert [path.name for path in checkpoint.paths] == ["model.safetensors"]
    np.testing.assert_array_equal(checkpoint.get("a"), values.numpy())
    np.testing.assert_array_equal(checkpoint.get("b"), values.to(torch.bfloat16).float().numpy())
    with pytest.raises(PackageError, match="no tensor c"):
        checkpoint.get("c")
    with pytest.raises(PackageError, match="no safetensors files"):
        Checkpoint(tmp_path / "none")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rounding_is_no_change(dtype: torch.dtype) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    saved = values.to(dtype)
    as_read = saved.float().numpy() if dtype == torch.bfloat16 else saved.numpy()
    assert not changed(as_read, values.numpy())
    other = as_read.copy()
    other[7] *= 1.01
    assert changed(other, values.numpy())
    assert changed(as_read[:5], values.numpy())
