"""The header of a GGUF file, walked within the file's bounds before a library reads it.

The ``gguf`` package believes every count: an array of 2^40 values costs its reader hours, not an error. Here counts and
lengths are compared with the bytes that are left, and with what any model needs
(github.com/ggml-org/ggml/blob/master/docs/gguf.md). Only header bytes are read.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from ramp.gguf_format.names import GgufError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a metadata value -> its bytes."""
STRING, ARRAY = 8, 9
MOST_VALUES = 2_000_000  # of all arrays together; the largest vocabulary, with its merges, takes 1.3 million
MOST_KEYS = 10_000
MOST_TENSORS = 100_000
MOST_DIMENSIONS = 4
ALIGNMENT = b"general.alignment"


class _Walk:
    """A place in a header; what would lead beyond the end raises ``GgufError``."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at, self.values = data, path, 0, 0

    def refuse(self, what: str) -> GgufError:
        return GgufError(f"{self.path} is not a readable GGUF file ({what}): get or make it again")

    def skip(self, count: int) -> int:
        """Go ``count`` bytes on; return where they began."""
        began = self.at
        if count > len(self.data) - began:
            raise self.refuse(f"its header asks for {count:,} bytes at byte {began:,} of {len(self.data):,}")
        self.at += count
        return began

    def number(self, form: str) -> int:
        """Read one little-endian number."""
        return int(struct.unpack_from(form, self.data, self.skip(struct.calcsize(form)))[0])

    def string(self) -> bytes:
        """Read a string."""
        length = self.number("<Q")
        began = self.skip(length)
        return self.data[began : began + length]

    def value(self, kind: int) -> None:
        """Go beyond one value of the metadata."""
        if kind in SCALARS:
            self.skip(SCALARS[kind])
        elif kind == STRING:
            self.skip(self.number("<Q"))
        elif kind == ARRAY:
            self.array()
        else:
            raise self.refuse(f"its metadata has a value of type {kind}")

    def array(self) -> None:
        """Go beyond an array; llama.cpp, too, knows none of arrays."""
        kind, count = self.number("<I"), self.number("<Q")
        self.values += count
        if self.values > MOST_VALUES:
            raise self.refuse(f"its metadata has {self.values:,} values, no model has more than {MOST_VALUES:,}")
        if kind in SCALARS:
            self.skip(count * SCALARS[kind])
        elif kind == STRING:
            for _ in range(count):
                self.skip(self.number("<Q"))
        else:
            raise self.refuse(f"its metadata has an array of type {kind}")


def check_header(path: Path) -> None:
    """Raise ``GgufError`` unless every count, length, type and offset of a file's header fits the file."""
    with open(path, "rb") as stream:
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file has no map
            raise GgufError(
                f"{path} is not a readable GGUF file (it is empty): get it again, or make it again"
            ) from None
        with data:
            _check(_Walk(data, path))


def _check(walk: _Walk) -> None:
    if walk.data[walk.skip(4) : 4] != MAGIC or walk.number("<I") not in VERSIONS:
        raise walk.refuse("it does not begin as one of version 2 or 3, little-endian")
    tensors, keys = walk.number("<Q"), walk.number("<Q")
    if tensors > MOST_TENSORS or keys > MOST_KEYS:
        raise walk.refuse(f"it says {tensors:,} tensors and {keys:,} keys of metadata")
    alignment = 32
    for _ in range(keys):
        key, kind = walk.string(), walk.number("<I")
        if key == ALIGNMENT:
            if kind != 4 or (alignment := walk.number("<I")) < 8 or alignment & (alignment - 1):
                raise walk.refuse("its general.alignment is no power of two from 8 up")
        else:
            walk.value(kind)
    ends = [(name, *_tensor(walk, alignment)) for name in (walk.string() for _ in range(tensors))]
    start = -(-walk.at // alignment) * alignment
    for name, offset, size in ends:
        if start + offset + size > len(walk.data):
            raise walk.refuse(f"{name.decode(errors='replace')[:80]} ends beyond the file, which is cut short")


def _tensor(walk: _Walk, alignment: int) -> tuple[int, int]:
    """Read the rest of a tensor's entry; return where its bytes begin in the data, and how many they are."""
    dimensions = walk.number("<I")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise walk.refuse(f"a tensor has {dimensions} dimensions")
    count = 1
    for _ in range(dimensions):
        count *= walk.number("<Q")
    kind, offset = walk.number("<I"), walk.number("<Q")
    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        raise walk.refuse(f"a tensor has type {kind}, which no ggml type has") from None
    if offset % alignment or count % block:
        raise walk.refuse("a tensor begins or ends within a block")
    return offset, count // block * size
