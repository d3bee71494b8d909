"""Packed linears in a safetensors file: the layout, the writer, and the memory-mapped reader of banks and rows.

Each linear at each width is three tensors, packed as in ``ramp.quantizers.packing``:

| tensor | type | shape |
| --- | --- | --- |
| ``{prefix}codes`` | uint8 | [d_out, packed_length(d_in, bits)] |
| ``{prefix}scales`` | float16 | [d_out, n_groups] |
| ``{prefix}zeros`` | uint8 | [packed_length(d_out * n_groups, bits)] |

``prefix`` is ``{linear}/{width}/`` in a bank and ``{linear}.`` in the packed checkpoint of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ramp.core.tensor_file import Layout, TensorFile
from ramp.core.tensors import Tensors, open_tensors
from ramp.models.architecture import LinearSpec
from ramp.quantizers.affine import QuantizedLinear
from ramp.quantizers.packing import from_tensors, packed_length, to_tensors
from ramp.quantizers.sizes import own_group
from ramp.quantizers.widths import Width, bits_of

PARTS = ("codes", "scales", "zeros")

Key = TypeVar("Key")


@dataclass(frozen=True)
class Packed:
    """The place of a linear's three tensors, and the values that unpack them."""

    prefix: str
    bits: int
    group_size: int
    d_in: int

    @staticmethod
    def of(linear: LinearSpec, width: Width, group_size: int) -> Packed:
        """Return a linear at one width; ``group_size`` holds for a width that names none."""
        groups = own_group(linear.d_in, width, group_size, linear.name)
        return Packed(f"{linear.name}/{width}/", bits_of(width), groups, linear.d_in)


@dataclass(frozen=True)
class PackedLinear:
    """A linear as it is stored, for those who copy it: a 7B takes minutes of a core to unpack and to pack again."""

    codes: Tensor  # uint8 [d_out, packed_length(d_in, bits)]
    scales: Tensor  # float16 [d_out, n_groups]
    zeros: Tensor  # uint8 [packed_length(d_out * n_groups, bits)]
    bits: int
    group_size: int
    d_in: int

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return int(self.scales.shape[0]), self.d_in


def packed_layout(prefix: str, d_out: int, d_in: int, bits: int, group_size: int) -> Layout:
    """Return the layout of one linear's three tensors."""
    groups = d_in // group_size
    return {
        f"{prefix}codes": ("U8", (d_out, packed_length(d_in, bits))),
        f"{prefix}scales": ("F16", (d_out, groups)),
        f"{prefix}zeros": ("U8", (packed_length(d_out * groups, bits),)),
    }


class PackedLinears(Mapping[Key, QuantizedLinear], Generic[Key]):
    """Linears of an open safetensors file, memory-mapped and unpacked one at a time."""

    def __init__(self, tensors: Tensors, linears: Mapping[Key, Packed]) -> None:
        self._tensors, self._linears = tensors, linears

    def parts(self, key: Key, device: torch.device | str = "cpu") -> list[Tensor]:
        """Return the packed codes, scales and zeros of one linear on ``device``."""
        prefix = self._linears[key].prefix
        return [self._tensors[f"{prefix}{part}"].to(device) for part in PARTS]

    def packed(self, key: Key) -> PackedLinear:
        """Return one linear as it is stored."""
        at, (codes, scales, zeros) = self._linears[key], self.parts(key)
        return PackedLinear(codes, scales, zeros, at.bits, at.group_size, at.d_in)

    def unpack(self, key: Key, parts: Sequence[Tensor]) -> QuantizedLinear:
        """Return one linear from its packed parts, on their device."""
        at = self._linears[key]
        return from_tensors(*parts, bits=at.bits, group_size=at.group_size, d_in=at.d_in)

    def __getitem__(self, key: Key) -> QuantizedLinear:
        return self.unpack(key, self.parts(key))

    def __contains__(self, key: object) -> bool:
        return key in self._linears  # without unpacking it

    def __iter__(self) -> Iterator[Key]:
        return iter(self._linears)

    def __len__(self) -> int:
        return len(self._linears)


class PackedWriter:
    """A file of packed linears, written one linear at a time: a 7B's unpacked codes would take 6.6 GB of memory."""

    def __init__(
        self,
        path: Path,
        linears: Sequence[LinearSpec],
        widths: Mapping[str, Sequence[Width]],
        group_size: int,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """widths: linear -> its widths; about: the file's metadata."""
        self._path = path
        self._entries = {(x.name, w): Packed.of(x, w, group_size) for x in linears for w in widths[x.name]}
        layout: dict[str, tuple[str, tuple[int, ...]]] = {}
        for x in linears:
            for width in widths[x.name]:
                at = self._entries[x.name, width]
                layout |= packed_layout(at.prefix, x.d_out, x.d_in, at.bits, at.group_size)
        self._file = TensorFile(path, layout, about or {})

    def put(self, name: str, width: Width, q: QuantizedLinear) -> None:
        """Write one linear; raises ``TensorFileError`` where its shapes are not those of the layout."""
        for part, tensor in to_tensors(q).items():
            self._file.write(f"{name}/{width}/{part}", tensor)

    def __enter__(self) -> PackedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the file; raise ``TensorFileError`` where a linear was never written."""
        self._file.close(complete=kind is None)

    def read(self) -> PackedLinears[str]:
        """Return the closed file's linears by name, for a file of one width per linear."""
        tensors = open_tensors(self._path, "linears", sealed=False)
        return PackedLinears(tensors, {name: at for (name, _), at in self._entries.items()})
