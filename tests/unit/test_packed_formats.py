"""Reading GPTQ's and AWQ's files: against Python's big integers, and against words that were packed by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramp.quantizers.packed_formats import PackedFormatError, codes_on_grid, unpack_awq, unpack_gptq, unpack_words
from tests.refusals import refused


def words_of(values: np.ndarray, bits: int) -> np.ndarray:
    """Rows of codes as int32 words, by way of one big integer a row: nothing of ours computes that."""
    rows = []
    for row in values.tolist():
        number = sum(int(code) << (bits * i) for i, code in enumerate(row))
        rows.append(np.frombuffer(number.to_bytes(len(row) * bits // 8, "little"), dtype="<i4"))
    return np.array(rows, dtype=np.int32)


def random_linear(d_out: int, d_in: int, n_groups: int, bits: int, seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, (d_out, d_in), dtype=np.uint8)
    zeros = rng.integers(1, 2**bits, (d_out, n_groups), dtype=np.uint8)
    return codes, rng.uniform(0.01, 1, (d_out, n_groups)).astype(np.float16), zeros


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_words_round_trip(bits: int, rows: int, blocks: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, 32 * blocks), dtype=np.uint8)
    assert np.array_equal(unpack_words(words_of(codes, bits), bits), codes)


def test_three_bit_codes_lie_across_words() -> None:
    """auto-gptq's layout: code 10 has two bits in the first word and one in the second, code 21 one and two."""
    words = np.array([[0b11 << 30, 1 | (1 << 31), 0b10]], dtype=np.uint32).view(np.int32)
    expected = np.zeros((1, 32), dtype=np.uint8)
    expected[0, 10], expected[0, 21] = 0b111, 0b101
    assert np.array_equal(unpack_words(words, 3), expected)


@given(st.sampled_from([2, 3, 4, 8]), st.sampled_from([1, 2, 4]), st.booleans(), st.integers(0, 2**31))
def test_gptq_round_trip(bits: int, n_groups: int, v1: bool, seed: int) -> None:
    codes, scales, zeros = random_linear(32, 64, n_groups, bits, seed)
    qweight, qzeros = words_of(codes, bits).T, words_of(zeros.T - int(v1), bits)
    assert qweight.shape == (64 * bits // 32, 32)
    assert qzeros.shape == (n_groups, bits)
    g_idx = np.arange(64, dtype=np.int32) // (64 // n_groups)
    found = unpack_gptq(qweight, qzeros, np.ascontiguousarray(scales.T), bits, g_idx=g_idx, v1=v1)
    for one, other in zip(found, (codes, scales, zeros), strict=True):
        assert np.array_equal(one, other)


def test_a_zero_point_that_version_1_cannot_hold_does_not_pass_for_another() -> None:
    codes, scales, zeros = random_linear(32, 32, 1, 4, 0)
    stored = (zeros.astype(int).T - 1) & 15
    stored[0, 5] = 15  # zero-point 0, minus one, in four bits
    zeros = unpack_gptq(words_of(codes, 4).T, words_of(stored, 4), scales.T, 4)[2]
    assert zeros[5, 0] == 16


def test_permuted_groups_are_refused() -> None:
    codes, scales, zeros = random_linear(32, 64, 2, 4, 0)
    g_idx = np.roll(np.arange(64) // 32, 1)
    with pytest.raises(PackedFormatError, match="static"):
        unpack_gptq(words_of(codes, 4).T, words_of(zeros.T - 1, 4), scales.T, 4, g_idx=g_idx)


def interleaved(values: np.ndarray) -> np.ndarray:
    """AWQ's words: column 8 k + (0 2 4 6 1 3 5 7)[i] in nibble i of word k."""
    words = np.zeros((values.shape[0], values.shape[1] // 8), dtype=np.uint32)
    for column in range(values.shape[1]):
        word, place = divmod(column, 8)
        nibble = place // 2 if place % 2 == 0 else 4 + place // 2
        words[:, word] |= values[:, column].astype(np.uint32) << np.uint32(4 * nibble)
    return words.view(np.int32)


@given(st.sampled_from([8, 16, 40]), st.sampled_from([1, 2, 4]), st.integers(0, 2**31))
def test_awq_round_trip(d_out: int, n_groups: int, seed: int) -> None:
    codes, scales, zeros = random_linear(d_out, 16, n_groups, 4, seed)
    found = unpack_awq(interleaved(codes.T), interleaved(zeros.T), scales.T)
    for one, other in zip(found, (codes, scales, zeros), strict=True):
        assert np.array_equal(one, other)


def test_awq_order_of_one_word() -> None:
    word = np.array([[0x75316420]], dtype=np.uint32).view(np.int32)
    codes = unpack_awq(word, word, np.ones((1, 8), dtype=np.float16))[0]
    assert codes[:, 0].tolist() == list(range(8))


@given(st.integers(2, 8), st.booleans(), st.integers(0, 2**31))
def test_codes_of_a_dequantized_weight(bits: int, half: bool, seed: int) -> None:
    """In single precision, and up to 4 bits in half."""
    codes, scales, zeros = random_linear(5, 12, 3, bits, seed)
    weight = (codes.reshape(5, 3, 4).astype(np.float32) - zeros[..., None]) * scales[..., None]
    weight = weight.reshape(5, 12).astype(np.float16 if half and bits <= 4 else np.float32)
    assert np.array_equal(codes_on_grid(weight, scales, zeros, bits), codes)


def test_a_weight_off_its_grid_is_refused() -> None:
    codes, scales, zeros = random_linear(4, 8, 2, 4, 1)
    weight = ((codes.reshape(4, 2, 4) - zeros[..., None].astype(int)) * scales[..., None]).reshape(4, 8)
    for off in (
        (weight, scales * np.float16(1.1), zeros),
        (weight, scales, zeros + 9),
        (weight * np.nan, scales, zeros),
    ):
        with pytest.raises(PackedFormatError, match="grid"):
            codes_on_grid(*off, 4)


def test_shapes_that_no_file_has() -> None:
    codes, scales, zeros = random_linear(32, 32, 1, 4, 2)
    weights, fewer = words_of(codes, 4).T, words_of(zeros.T[:, :24] - 1, 4)
    calls = {
        "int64": lambda: unpack_words(codes.astype(np.int64), 4),
        "3-bit codes": lambda: unpack_words(words_of(codes, 4), 3),
        "scales are [32, 1]": lambda: unpack_gptq(weights, words_of(zeros.T - 1, 4), scales, 4),
        "24 rows, weights for 32": lambda: unpack_gptq(weights, fewer, scales.T, 4),
        "zero-points for 24 rows": lambda: unpack_awq(interleaved(codes.T), interleaved(zeros.T[:, :24]), scales.T),
    }
    refused(PackedFormatError, calls)


def test_it_imports_without_torch() -> None:
    """Environments of packages need not have ours: numpy is all that reading their files takes."""
    line = "import ramp.quantizers.packed_formats, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
