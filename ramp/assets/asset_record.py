"""Fetched assets as later stages read them: ``asset.json`` and the file or folder that it names, checked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ramp.core.errors import RampError
from ramp.core.files import read_json, require_file, sha256_file

ABSENT = "absent"


class AssetError(RampError):
    """An asset is not what a stage needs: absent, damaged, or of another type."""


def asset_record(assets: Path, name: str) -> dict[str, Any]:
    """Return ``asset.json`` of a fetched asset."""
    file = assets / name / "asset.json"
    return dict(read_json(require_file(file, f"fetched asset '{name}'")))


def asset_path(assets: Path, name: str) -> Path:
    """Return the fetched file or folder, checked against its recorded sha256."""
    record = asset_record(assets, name)
    if record["kind"] == ABSENT:
        raise AssetError(f"asset '{name}' is absent: {record['reason']}")
    path = assets / name / record["path"]  # an absolute path stays as it is
    require_file(path, f"file of asset '{name}'")
    if tree_sha256(path) != record["sha256"]:
        raise AssetError(f"{path} does not match the sha256 in its asset.json: delete {assets / name} and fetch again")
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
