"""A package's own safetensors files, tensor by tensor. Light: numpy and safetensors alone.

Packed words are read by ``ramp.quantizers.packed_formats``; here is what stands around them: shards, bfloat16, and the
question whether a package changed a tensor or merely rounded it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ramp.methods.package_job import PackageError


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
