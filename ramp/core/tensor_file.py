"""A safetensors file that is written tensor by tensor, so that memory never holds all of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ramp.core.atomic_files import atomic_path
from ramp.core.errors import RampError
from ramp.core.tensors import metadata_of, open_tensors, seal

DTYPES = {"F32": (torch.float32, 4), "F16": (torch.float16, 2), "U8": (torch.uint8, 1)}
"""safetensors' name -> type, bytes per element; widest first in the file, so that every tensor is aligned."""

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name of a tensor -> safetensors' name of its type, and its shape."""


def layout_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the layout of some tensors."""
    names = {dtype: name for name, (dtype, _) in DTYPES.items()}
    return {name: (names[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}


def layout_bytes(layout: Layout) -> dict[str, int]:
    """Return the bytes of every tensor of a layout."""
    return {name: DTYPES[dtype][1] * math.prod(shape) for name, (dtype, shape) in layout.items()}


class TensorFileError(RampError):
    """A tensor that the file's layout does not have, or one that was never written."""


class TensorFile:
    """A safetensors file of known layout, filled tensor by tensor in any order, so that nothing is held in memory.

    The format (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header,
    then the tensors, in the order of safetensors' own writer: the same tensors give the same bytes.
    """

    def __init__(self, path: Path, layout: Layout, about: Mapping[str, Any]) -> None:
        header: dict[str, Any] = {"__metadata__": {"ramp": json.dumps(about, sort_keys=True)}}
        offset = 0
        sizes, order = layout_bytes(layout), list(DTYPES)
        for name in sorted(layout, key=lambda name: (order.index(layout[name][0]), name)):
            dtype, shape = layout[name]
            end = offset + sizes[name]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._header, self._start, self._left = header, 8 + len(text), set(layout)
        self._stream = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._stream.write(len(text).to_bytes(8, "little") + text)
        self._stream.truncate(self._start + offset)

    def write(self, name: str, tensor: Tensor) -> None:
        """Put one tensor in its place; a name or shape that the layout does not have is an error."""
        want = self._header.get(name)
        dtype = next(key for key, value in DTYPES.items() if value[0] == tensor.dtype)
        if want is None or want["dtype"] != dtype or want["shape"] != list(tensor.shape):
            raise TensorFileError(f"{name}: {dtype} {list(tensor.shape)} is not what the file's layout says ({want})")
        self._stream.seek(self._start + want["data_offsets"][0])
        self._stream.write(tensor.contiguous().cpu().numpy().tobytes())
        self._left.discard(name)

    def close(self, *, complete: bool) -> None:
        """Close the file; ``complete`` makes a tensor that was never written an error."""
        self._stream.close()
        if complete and self._left:
            raise TensorFileError(
                f"{len(self._left)} tensors of the file were never written, {min(self._left)} among them"
            )


def equal_tensors(a: Path, b: Path) -> bool:
    """Return whether two safetensors files hold the same tensors: names, types, shapes and every byte."""
    with open_tensors(a, "tensors", sealed=False) as one, open_tensors(b, "tensors", sealed=False) as other:
        if sorted(one) != sorted(other):
            return False
        pairs = ((one[name], other[name]) for name in one)
        return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def save_tensors(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write one safetensors file with its checksum, atomically; ``about`` as JSON in its metadata."""
    from safetensors.torch import save_file

    with atomic_path(path) as partial:
        tensors = {name: tensors[name].contiguous().cpu() for name in sorted(tensors)}
        save_file(tensors, partial, metadata=metadata_of(about))
        seal(partial)
