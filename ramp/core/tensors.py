"""Safetensors files, opened in one way: the header within the file, the checksum compared, every fault one sentence.

A file that this project writes holds the sha256 of its own bytes in its metadata (``SEAL``, computed with zeros in its
place); that of a bank and of a packed row stands in the JSON beside it. It is compared once per process and file, as a
stream. A file above ``REMEMBERED_BYTES`` that was found right is marked, in an extended attribute of its own, with its
checksum, size and last change: while all three hold, later processes do not read its gigabytes again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ramp.core.atomic_files import DamagedFile, atomic_path, parse_json, require_file, sha256_file

T = TypeVar("T")

SEAL = "bytes_sha256"
"""Key of the metadata under which a file holds the sha256 of its own bytes."""

BLANK = "0" * 64
AGAIN = "delete it and run its stage again"
_SEALED = re.compile(SEAL.encode() + rb'\\?": ?\\?"([0-9a-f]{64})')
LARGEST_HEADER = 100_000_000
"""Bytes; safetensors reads no longer header."""

REMEMBERED_BYTES = 1 << 30
"""Files up to this size are compared by every process: two seconds at half a gigabyte a second."""

MARK = "user.ramp.compared"
"""Extended attribute of a large file that was compared."""

_compared: set[tuple[str, int, int, int, str | None]] = set()


def metadata_of(about: Mapping[str, Any] | None) -> dict[str, str]:
    """Return metadata with a blank in the checksum's place; ``about`` as JSON under one key, so bytes do not vary."""
    if about is None:
        return {SEAL: BLANK}
    return {"ramp": json.dumps({**about, SEAL: BLANK}, sort_keys=True)}


def _header(path: Path, again: str = AGAIN) -> tuple[bytes, re.Match[bytes] | None]:
    """Return the length and the header of a file, and where its checksum stands."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, LARGEST_HEADER):
            raise DamagedFile(f"{path} is no safetensors file, or was cut off: {again}")
        head = start + stream.read(length)
    found = list(_SEALED.finditer(head))
    return head, found[0] if len(found) == 1 else None


def _digest(path: Path, head: bytes, place: re.Match[bytes]) -> str:
    begin, end = place.span(1)
    digest = hashlib.sha256(head[:begin] + BLANK.encode() + head[end:])
    with path.open("rb") as stream:
        stream.seek(len(head))
        hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def seal(path: Path) -> None:
    """Put the checksum of a whole file in the place of its blank."""
    head, place = _header(path)
    assert place is not None, f"{path} has no place for its checksum"
    found = _digest(path, head, place)
    with path.open("r+b") as stream:
        stream.seek(place.start(1))
        stream.write(found.encode())


def compare(path: Path, sha256: str | None, again: str = AGAIN) -> None:
    """Raise ``DamagedFile`` unless the file's checksum is that of its bytes; once per process and file."""
    about = path.stat()
    key = (str(path.resolve()), about.st_ino, about.st_size, about.st_mtime_ns, sha256)
    if key in _compared:
        return
    digest: Callable[[], str]
    if sha256 is not None:
        known, digest = sha256, partial(sha256_file, path)
    else:
        head, place = _header(path)
        if place is None:
            raise DamagedFile(f"{path} has no checksum of its content: {again}")
        known, digest = place[1].decode(), partial(_digest, path, head, place)
    mark = f"{known} {about.st_size} {about.st_mtime_ns}"
    if not _marked(path, about.st_size, mark):
        if digest() != known:
            raise DamagedFile(f"{path} is damaged, its bytes have another sha256 than when it was written: {again}")
        _set_mark(path, about.st_size, mark)
    _compared.add(key)


def _marked(path: Path, size: int, mark: str) -> bool:
    """Return whether an earlier process compared this very content; False where the file system keeps no mark."""
    if size <= REMEMBERED_BYTES:
        return False
    try:
        return os.getxattr(path, MARK) == mark.encode()
    except (OSError, AttributeError):  # no mark, no such attributes on this file system or operating system
        return False


def _set_mark(path: Path, size: int, mark: str) -> None:
    if size > REMEMBERED_BYTES:
        with suppress(OSError, AttributeError):  # a file of somebody else's: compared each time
            os.setxattr(path, MARK, mark.encode())


class Tensors(Mapping[str, Any]):
    """Tensors of an open file by name, memory-mapped, and what its metadata say of them."""

    def __init__(self, path: Path, handle: Any, again: str) -> None:
        self.path, self._handle, self._again = path, handle, again
        self._names = dict.fromkeys(handle.keys())

    @property
    def about(self) -> dict[str, Any]:
        """The JSON object of this project in the metadata; empty where there is none."""
        found = self.about_as(dict[str, Any])
        return {key: value for key, value in found.items() if key != SEAL}

    def about_as(self, model: type[T]) -> T:
        """Return the JSON object of this project in the metadata as a model that pydantic can check."""
        text = (self._handle.metadata() or {}).get("ramp", "{}")
        try:
            return parse_json(text, model, f"the metadata of {self.path}")
        except DamagedFile as error:
            raise DamagedFile(f"{error}: {self._again}") from None

    def __getitem__(self, name: str) -> Any:
        return self._read(name, self._handle.get_tensor)

    def part(self, name: str) -> Any:
        """Return a tensor of which slices are read."""
        return self._read(name, self._handle.get_slice)

    def _read(self, name: str, how: Callable[[str], Any]) -> Any:
        from safetensors import SafetensorError

        try:
            return how(name)
        except (SafetensorError, TypeError, ValueError) as error:
            fault = f"cannot read '{name}' ({error})" if name in self._names else f"lacks '{name}'"
            raise DamagedFile(f"{self.path} {fault}: {self._again}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __enter__(self) -> Tensors:
        self._handle.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._handle.__exit__(kind, error, at)


def open_tensors(
    path: str | Path,
    what: str,
    *,
    framework: str = "pt",
    sealed: bool = True,
    sha256: str | None = None,
    again: str = "",
) -> Tensors:
    """Open a safetensors file.

    what: what it is, for readers. sealed: whether it is one of this project, whose checksum is compared: its own, or
    ``sha256``. again: the remedy. Raises ``DamagedFile``.
    """
    from safetensors import SafetensorError, safe_open

    again = again or AGAIN
    path = require_file(path, what)
    if not path.is_file():
        raise DamagedFile(f"{path} is no file: give the {what} itself")
    _header(path, again)
    if sealed:
        compare(path, sha256, again)
    try:
        return Tensors(path, safe_open(str(path), framework=framework), again)
    except (SafetensorError, ValueError) as error:
        raise DamagedFile(f"{path} is no readable {what} ({error}): {again}") from None


class Loaded(dict[str, Any]):
    """All tensors of a file by name; one that is missing raises ``DamagedFile``."""

    def __init__(self, tensors: Mapping[str, Any], path: Path, again: str) -> None:
        super().__init__(tensors)
        self._path, self._again = path, again

    def __missing__(self, name: str) -> Any:
        raise DamagedFile(f"{self._path} lacks '{name}': {self._again}")


def load_tensors(path: str | Path, what: str, *, framework: str = "pt", again: str = "") -> dict[str, Any]:
    """Read all tensors of a file of this project; raises ``DamagedFile``, also where a missing one is asked for."""
    with open_tensors(path, what, framework=framework, again=again) as tensors:
        return Loaded(tensors, Path(path), again or AGAIN)


def save_arrays(path: str | Path, arrays: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    """Write numpy arrays as one safetensors file with its checksum, atomically."""
    import numpy as np
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        contiguous = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
        save_file(contiguous, str(partial), metadata=metadata_of(about))
        seal(partial)
