"""Files of GPTQ and AWQ packages, unpacked to codes, scales and zero-points. Light: numpy and safetensors alone.

| format | ``qweight`` int32 | ``qzeros`` int32 | ``scales`` | order |
| --- | --- | --- | --- | --- |
| GPTQ | [d_in * bits / 32, d_out], stream down a column | [n_groups, d_out * bits / 32] | [n_groups, d_out] | plain |
| AWQ "GEMM" | [d_in, d_out / 8], 4 bits | [n_groups, d_out / 8] | [n_groups, d_out] | interleaved |

A stream is little-endian: code i takes bits i*b .. i*b + b - 1, across words where b does not divide 32 (3 bits: 32
codes in three words). GPTQ files of the first version ("gptq") store the zero-point less one, modulo 2^b; those of the
second ("gptq_v2") and AWQ's store it as it is. (The layouts are those that IST-DASLab/gptq, auto-gptq and llm-awq
write; the tests hold them against the packages' own de-quantization.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ramp.packages import PackageError

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Nibble i of an AWQ word holds the column ``AWQ_ORDER[i]`` of its eight."""


class Unpacked(NamedTuple):
    """A linear as ``PackageJob.keep`` takes it."""

    codes: np.ndarray  # uint8 [d_out, d_in]
    scales: np.ndarray  # [d_out, n_groups], in the file's dtype
    zeros: np.ndarray  # uint8 [d_out, n_groups]
    group_size: int


def unpack_stream(words: np.ndarray, bits: int) -> np.ndarray:
    """int32 words [n, m] -> codes uint8 [n, m * 32 / bits] of the little-endian streams in the rows."""
    octets = np.ascontiguousarray(words).astype("<i4", copy=False).view(np.uint8)
    flags = np.unpackbits(octets, axis=1, bitorder="little")  # (n, 32 m)
    if flags.shape[1] % bits:
        raise PackageError(f"rows of {words.shape[1]} words do not hold whole codes of {bits} bits")
    places = (1 << np.arange(bits)).astype(np.uint8)
    return (flags.reshape(len(flags), -1, bits) * places).sum(axis=-1, dtype=np.uint8)


def unpack_gptq(
    qweight: np.ndarray,
    qzeros: np.ndarray,
    scales: np.ndarray,
    g_idx: np.ndarray | None,
    bits: int,
    *,
    zeros_minus_one: bool,
) -> Unpacked:
    """A linear of a GPTQ file. ``PackageError`` where ``g_idx`` is not in order: such groups are not ours."""
    codes = unpack_stream(qweight.T, bits)  # (d_out, d_in)
    zeros = unpack_stream(qzeros, bits)[:, : scales.shape[1]].T  # (d_out, n_groups)
    group_size = codes.shape[1] // scales.shape[0]
    if g_idx is not None and not np.array_equal(g_idx, np.arange(codes.shape[1]) // group_size):
        raise PackageError("its groups follow an activation order (desc_act without static groups)")
    if zeros_minus_one:
        zeros = (zeros + 1).astype(np.uint8) & np.uint8(2**bits - 1)
    return Unpacked(codes, np.ascontiguousarray(scales.T), np.ascontiguousarray(zeros), group_size)


def unpack_awq(qweight: np.ndarray, qzeros: np.ndarray, scales: np.ndarray) -> Unpacked:
    """A linear of an AWQ "GEMM" file, 4 bits."""
    back = np.argsort(AWQ_ORDER)

    def plain(words: np.ndarray) -> np.ndarray:
        codes = unpack_stream(words, 4)  # (n, d_out), eight by eight out of order
        return codes.reshape(len(codes), -1, 8)[:, :, back].reshape(len(codes), -1)

    codes, zeros = plain(qweight).T, plain(qzeros).T
    group_size = codes.shape[1] // scales.shape[0]
    return Unpacked(
        np.ascontiguousarray(codes), np.ascontiguousarray(scales.T), np.ascontiguousarray(zeros), group_size
    )


class Checkpoint:
    """The tensors of a folder of safetensors files, read one at a time."""

    def __init__(self, folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            self._files = {name: folder / shard for name, shard in shards.items()}
        else:
            self._files = {name: path for path in sorted(folder.glob("*.safetensors")) for name in _names(path)}
        if not self._files:
            raise PackageError(f"no safetensors files in {folder.name}")

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return sorted(set(self._files.values()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def get(self, name: str) -> np.ndarray:
        """One tensor; bfloat16 as float32, exactly. ``PackageError`` for a name that no file has."""
        from safetensors import safe_open

        if name not in self._files:
            raise PackageError(f"its files have no tensor {name}")
        with safe_open(str(self._files[name]), framework="np") as handle:
            if handle.get_slice(name).get_dtype() != "BF16":
                return handle.get_tensor(name)
        return _bfloat16(self._files[name], name)


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as handle:
        return list(handle.keys())


def _bfloat16(path: Path, name: str) -> np.ndarray:
    """A bfloat16 tensor, which numpy has not, as the upper halves of float32; read by the format's own header."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        about = json.loads(stream.read(length))[name]
        begin, end = about["data_offsets"]
        stream.seek(8 + length + begin)
        halves = np.frombuffer(stream.read(end - begin), dtype="<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(about["shape"])


def changed(saved: np.ndarray, original: np.ndarray) -> bool:
    """Whether a tensor differs from the checkpoint's by more than the rounding of its own dtype (or bfloat16's)."""
    if saved.shape != original.shape:
        return True
    if np.array_equal(saved, original.astype(saved.dtype)):
        return False
    words = original.astype(np.float32).view(np.uint32).astype(np.uint64)
    even = ((words + 0x7FFF + ((words >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)  # to nearest, ties to even
    return not np.array_equal(saved.astype(np.float32), even.view(np.float32))
