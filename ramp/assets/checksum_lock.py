"""The lock of the registry (``assets.lock.yaml``): commits and checksums taken at the first download.

Commit that file to pin them for others.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ramp.assets.fetched_files import Fetched, require_room, tree_files, tree_sha256
from ramp.assets.registry import ANY, RESOLVE, Registry, RegistryError
from ramp.core.atomic_files import atomic_path, write_text
from ramp.core.yaml_file import YamlError, read_yaml

PINS = TypeAdapter(dict[str, dict[str, dict[str, str]]])
"""Asset -> source -> ``revision``, ``sha256`` or ``wheel_sha256`` -> its value."""


class Lock:
    """Lock file: ``{asset: {source: {"revision": ..., "sha256": ...}}}`` as YAML."""

    def __init__(self, registry: Registry) -> None:
        self.path = registry.file.with_name(f"{registry.file.stem}.lock.yaml")

    def read(self) -> dict[str, dict[str, dict[str, str]]]:
        """Return the whole lock; an absent file is an empty one."""
        if not self.path.exists():
            return {}
        try:
            return PINS.validate_python(read_yaml(self.path, "lock of the registry") or {})
        except (YamlError, ValidationError) as error:
            raise RegistryError(
                f"{self.path} is no lock of a registry ({str(error).splitlines()[0]}): restore it from version "
                "control, or delete it"
            ) from None

    def settle(self, asset: str, source: str, key: str, declared: str, found: str | None) -> str:
        """Return the value to trust, given what the registry declares and what a download found.

        That is ``declared``, or the locked value where ``declared`` is ``resolve``; if both are unknown, ``found`` is
        recorded and returned. Without ``found`` the result may be ``resolve``. Raises ``RegistryError`` where ``found``
        differs from the trusted value.
        """
        trusted = declared
        if declared == ANY:
            return found or ANY
        if declared == RESOLVE:
            trusted = self.read().get(asset, {}).get(source, {}).get(key, RESOLVE)
        if found is None:
            return trusted
        if trusted == RESOLVE:
            self._record(asset, source, key, found)
            return found
        if trusted != found:
            where = "the registry" if declared != RESOLVE else str(self.path)
            raise RegistryError(
                f"{key} of asset '{asset}' from {source} is {found}, {where} says {trusted}: "
                "it is damaged, or its origin changed: fetch it again, or correct the pin"
            )
        return trusted

    def _record(self, asset: str, source: str, key: str, value: str) -> None:
        """Add one value, under a file lock: parallel jobs write the same file."""
        import yaml

        guard = self.path.with_name(f".{self.path.name}.partial")  # never removed, so that every job locks one inode
        try:
            with open(guard, "a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                whole = self.read()
                whole.setdefault(asset, {}).setdefault(source, {})[key] = value
                head = "# Commits and checksums taken at the first download (ramp.assets.registry). Commit this file.\n"
                write_text(self.path, head + yaml.safe_dump(whole, sort_keys=True, allow_unicode=True))
        except OSError as error:
            raise RegistryError(f"cannot write {self.path} ({error.strerror}): make its folder writable") from None


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
