"""The container of an archive: a ZIP file, written with the same bytes every time, and read as if an enemy wrote it.

Reading never writes to the disk. An archive is refused as a whole where its list of files cannot be trusted: a name
that leads out of a folder, a link, two files of one name, an encrypted file, more files or bytes than ``Limits``. A
file whose bytes are damaged is told by its checksum.
"""

from __future__ import annotations

import hashlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ramp.core.atomic_files import atomic_path, require_file
from ramp.core.errors import RampError

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of every file: the earliest that ZIP knows. Times of a run would make two archives of one study differ."""

CHUNK = 1 << 20


class ArchiveError(RampError):
    """A file that is no archive of this project, or one that is not safe to read."""


@dataclass(frozen=True)
class Limits:
    """The most that is read of an archive from elsewhere."""

    files: int = 100_000
    bytes: int = 4 << 30  # of all files together, uncompressed
    text_bytes: int = 256 << 20  # of one file that is read whole: a table, the metadata


DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error)
"""What zipfile raises on files that are not as they should be; an encrypted one is a RuntimeError."""

_DRIVE = re.compile(r"[A-Za-z]:")


def write_archive(out: Path, members: Mapping[str, Path | bytes]) -> None:
    """Write ``members`` (name -> file or bytes) sorted by name; the same members give the same bytes."""
    with atomic_path(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for name in sorted(members):
            value = members[name]
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.file_size = len(value) if isinstance(value, bytes) else value.stat().st_size  # decides on ZIP64
            with target.open(info, "w") as stream:
                if isinstance(value, bytes):
                    stream.write(value)
                else:
                    with value.open("rb") as source:
                        while part := source.read(CHUNK):
                            stream.write(part)


def unsafe_name(name: str) -> str:
    """Return why a file of this name could be written outside a folder, or be two files; empty where it is safe."""
    parts = name.split("/")
    if not name or name.startswith("/") or "\\" in name or _DRIVE.match(name):
        return "is no relative path"
    if any(part in ("", ".", "..") for part in parts) or PurePosixPath(name).as_posix() != name:
        return "leads out of a folder"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "holds control characters"
    return ""


class Archive:
    """An open archive whose list of files was checked."""

    def __init__(self, source: zipfile.ZipFile, path: Path, limits: Limits) -> None:
        """Check the list of files; ``ArchiveError`` names the first that is not safe."""
        self.path, self.limits, self._source = path, limits, source
        self._members: dict[str, zipfile.ZipInfo] = {}
        total = 0
        if len(source.infolist()) > limits.files:
            raise ArchiveError(f"{path} lists {len(source.infolist()):,} files, more than {limits.files:,}: not read")
        for info in source.infolist():
            self._check(info)
            total += info.file_size
            if total > limits.bytes:
                raise ArchiveError(f"{path} unpacks to more than {limits.bytes:,} bytes: not read")
            self._members[info.filename] = info

    def _check(self, info: zipfile.ZipInfo) -> None:
        fault = unsafe_name(info.orig_filename)
        mode = info.external_attr >> 16
        if not fault and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            fault = "is a link, a folder or a device"
        if not fault and info.flag_bits & 1:
            fault = "is encrypted"
        if not fault and info.filename in self._members:
            fault = "is there twice"
        if not fault and info.header_offset < 0:
            fault = "begins before the archive"
        if fault:
            raise ArchiveError(f"{self.path}: the file {info.orig_filename!r} {fault}: nothing of the archive is read")

    @property
    def names(self) -> list[str]:
        """Its files, sorted."""
        return sorted(self._members)

    def size(self, name: str) -> int:
        """Return the bytes that a file unpacks to, as the list says."""
        return self._members[name].file_size

    def parts(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file in pieces; ``ArchiveError`` where they are damaged."""
        try:
            with self._source.open(self._members[name]) as stream:
                while part := stream.read(CHUNK):
                    yield part
        except DAMAGED as error:
            raise ArchiveError(
                f"{self.path}: the bytes of {name} are damaged ({error}): get the archive again"
            ) from None

    def sha256(self, name: str) -> str:
        """Return the hexadecimal sha256 of a file; ``ArchiveError`` where its bytes are damaged."""
        digest = hashlib.sha256()
        for part in self.parts(name):
            digest.update(part)
        return digest.hexdigest()

    def read(self, name: str) -> bytes:
        """Return a file's bytes; ``ArchiveError`` where there is none, or it is too large to be read whole."""
        if name not in self._members:
            raise ArchiveError(f"{self.path} has no {name}: it is no archive of python -m ramp archive")
        if self.size(name) > self.limits.text_bytes:
            raise ArchiveError(f"{self.path}: {name} has {self.size(name):,} bytes, too many to read whole")
        return b"".join(self.parts(name))

    def copy(self, name: str, to: Path) -> None:
        """Write one file to ``to``, whose name the caller chose."""
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("wb") as stream:
            for part in self.parts(name):
                stream.write(part)


@contextmanager
def open_archive(path: Path, limits: Limits = Limits()) -> Iterator[Archive]:
    """Open an archive for reading.

    Raises:
        ArchiveError: no such file, no ZIP file, or one that is not safe to read.
    """
    if path.exists():
        require_file(path, "archive")  # a pipe would keep the reader waiting
    try:
        source = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise ArchiveError(f"no file {path}: python -m ramp archive RESULTS --out FILE makes one") from None
    except (*DAMAGED, OSError) as error:
        raise ArchiveError(f"{path} is no ZIP file that can be read ({error}): get the archive again") from None
    with source:
        yield Archive(source, path, limits)
