"""A package's own safetensors files: read tensor by tensor, compared with the checkpoint, and handed over.

It needs numpy and safetensors only. ``ramp.quantizers.packed_formats`` reads packed words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ramp.methods.package_job import PackageError, PackageJob


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
        """Return the files, sorted."""
        return sorted(set(self._files.values()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def get(self, name: str) -> np.ndarray:
        """Return one tensor; bfloat16 as float32, exactly. ``PackageError`` for a name that no file has."""
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
    """Return a bfloat16 tensor, a type that numpy lacks, as float32, read by the header of the safetensors format."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        about = json.loads(stream.read(length))[name]
        begin, end = about["data_offsets"]
        stream.seek(8 + length + begin)
        halves = np.frombuffer(stream.read(end - begin), dtype="<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(about["shape"])


def changed(saved: np.ndarray, original: np.ndarray) -> bool:
    """Return whether a tensor differs from the checkpoint's by more than rounding to its dtype or to bfloat16."""
    if saved.shape != original.shape:
        return True
    if np.array_equal(saved, original.astype(saved.dtype)):
        return False
    words = original.astype(np.float32).view(np.uint32).astype(np.uint64)
    even = ((words + 0x7FFF + ((words >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)  # to nearest, ties to even
    return not np.array_equal(saved.astype(np.float32), even.view(np.float32))


def keep_saved(
    job: PackageJob,
    folder: Path,
    parts: Sequence[str],
    unpack: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]],
    group_sizes: Mapping[str, int],
) -> None:
    """Hand over a checkpoint that a package saved: its linears, other tensors that it changed, and its files.

    parts: names of a linear's tensors, which ``unpack`` takes and returns as (codes, scales, zeros) for ``job.keep``.
    """
    saved, original = Checkpoint(folder), Checkpoint(job.model_dir)
    for name in job.linears:
        words = {part: saved.get(f"{name}.{part}") for part in parts}
        job.keep(name, *unpack(**words), group_size=group_sizes[name])
    for name in original:
        if name in saved and changed(saved.get(name), original.get(name)):
            job.keep_other(name, saved.get(name))
    job.native(*saved.paths)
