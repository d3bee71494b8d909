"""Fetched assets: what ``asset.json`` records of one, its file or folder as later stages read it, checked."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, Field

from ramp.core.atomic_files import read_json, require_file, sha256_file
from ramp.core.errors import RampError
from ramp.core.safe_path import below

DAMAGED = (zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError, struct.error, RuntimeError, ValueError)
"""What zipfile raises on a damaged archive: of an unknown compression, one that asks for a password, bad names."""


class FetchError(RampError):
    """A source cannot be fetched: no network, no access, no space, a wrong checksum, a missing file."""


class SourceAbsent(FetchError):
    """This source is not available; the next one may be."""


@dataclass(frozen=True)
class Fetched:
    """A fetched file or folder, as ``asset.json`` records it."""

    path: Path  # file, or folder of a checkpoint
    kind: str  # "wheel", "hub" or "path"
    source: str
    revision: str
    sha256: str  # of the file, or of the list of a folder's checksums
    bytes: int


class AssetRecord(BaseModel):
    """Fields that ``asset.json`` must have; others are kept as they are."""

    model_config = ConfigDict(extra="allow")

    kind: str
    path: str = Field(min_length=1)  # file, or folder of a checkpoint
    sha256: str = Field(min_length=1)


def asset_record(assets: Path, name: str) -> AssetRecord:
    """Return ``asset.json`` of a fetched asset."""
    file = require_file(assets / name / "asset.json", f"fetched asset '{name}'")
    return read_json(file, AssetRecord, sealed=True, again=f"delete {assets / name} and fetch it again")


def asset_path(assets: Path, name: str) -> Path:
    """Return the fetched file or folder, checked against its recorded sha256."""
    record = asset_record(assets, name)
    path = Path(record.path)  # absolute: a checkpoint that stays where it is
    if not path.is_absolute():
        path = below(assets / name, record.path, assets / name / "asset.json")
    require_file(path, f"file of asset '{name}'")
    if tree_sha256(path) != record.sha256:
        raise RampError(f"{path} does not match the sha256 in its asset.json: delete {assets / name} and fetch again")
    return path


def tree_files(path: Path) -> list[Path]:
    """Return the file itself, or every file of a folder except hidden ones, sorted."""
    if path.is_file():
        return [path]
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def tree_sha256(path: Path) -> str:
    """Return the sha256 of a file, or of the sorted list ``sha256  relative/name`` of a folder's files."""
    if path.is_file():
        return sha256_file(path)
    lines = (f"{sha256_file(file)}  {file.relative_to(path).as_posix()}\n" for file in tree_files(path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_member(wheel: Path, member: str | None) -> Iterator[bytes]:
    """Yield the bytes of one file inside a wheel, or of the wheel itself, in pieces of 1 MiB."""
    try:
        with ExitStack() as opened:
            if member is None:
                stream: IO[bytes] = opened.enter_context(open(wheel, "rb"))
            else:
                stream = opened.enter_context(opened.enter_context(zipfile.ZipFile(wheel)).open(member))
            while piece := stream.read(1 << 20):
                yield piece
    except KeyError:
        raise FetchError(f"{wheel.name} has no file {member}: correct 'member' in the registry") from None
    except DAMAGED as error:
        raise FetchError(f"cannot read {member} in {wheel} ({error}): delete that wheel and fetch again") from None


def member_bytes(wheel: Path, member: str | None) -> int:
    """Return the bytes of what ``read_member`` yields; 0 where it will raise."""
    if member is None:
        return wheel.stat().st_size
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.getinfo(member).file_size
    except (KeyError, *DAMAGED):
        return 0


def require_room(folder: Path, needed_bytes: int, name: str) -> None:
    """Raise ``FetchError`` unless ``needed_bytes`` and 5 % more are free on the disk of ``folder``."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes * 1.05 > free:
        raise FetchError(
            f"asset '{name}' needs {needed_bytes / 1e9:.2f} GB in {existing} and {free / 1e9:.2f} GB are free: "
            "free some, or point RAMP_CACHE or HF_HOME at a larger disk"
        )
