"""The result of fetching an asset from any source, and what all sources share: errors, free space, whole files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ramp.assets.asset_record import tree_files, tree_sha256
from ramp.assets.lock import Lock
from ramp.core.errors import RampError
from ramp.core.files import atomic_path, remove


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


def take(
    name: str, lock: Lock, path: Path, out_dir: Path, *, kind: str, source: str, declared: str, revision: str = ""
) -> Fetched:
    """Check a file or folder; copy a single file into ``out_dir``, leave a folder in place.

    ``declared``: its sha256 in the registry; ``revision`` empty: the first digits of its sha256.
    """
    sha256 = lock.settle(name, source, "sha256", declared, tree_sha256(path))
    size = sum(file.stat().st_size for file in tree_files(path))
    if path.is_file():
        require_room(out_dir, size, name)
        with atomic_path(out_dir / path.name) as partial:
            shutil.copyfile(path, partial)
        path = out_dir / path.name
    return Fetched(path, kind, source, revision or sha256[:12], sha256, size)


def remove_partials(folder: Path) -> None:
    """Delete partial files that a killed job left in ``folder``."""
    for left in folder.glob("*.partial"):
        remove(left)


def require_room(folder: Path, needed_bytes: int, name: str) -> None:
    """Raise ``FetchError`` unless ``needed_bytes`` and 5 % more are free on the disk of ``folder``."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes * 1.05 > free:
        raise FetchError(
            f"asset '{name}' needs {needed_bytes / 1e9:.2f} GB in {existing} and {free / 1e9:.2f} GB are free: "
            "free some, or point RAMP_CACHE or HF_HOME at a larger disk"
        )
