"""Files with checksums as tests write, read and change them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ramp.core import atomic_files
from ramp.core.stale_temporaries import owner
from ramp.core.tensor_file import save_tensors


def read_json(path: Path) -> Any:
    """Return any JSON file's content without its checksum, which is compared."""
    return atomic_files.read_json(path, object)  # type: ignore[type-abstract]


def write_sealed(path: Path, value: Mapping[str, Any] | list[Any]) -> Path:
    """Write a JSON object, or a list, with the checksum of what it holds now."""
    if isinstance(value, Mapping):
        value = {key: each for key, each in value.items() if key != atomic_files.SEAL}
        value = value[atomic_files.ITEMS] if value.keys() == {atomic_files.ITEMS} else value
    atomic_files.write_json(path, value, sealed=True)
    return path


def owner_of_a_killed_job() -> str:
    """Return the owner in names of temporary files of this process, had another one with its number been before it."""
    place, _, start = owner().rpartition("-")
    return f"{place}-{int(start) - 1}"


def save_sealed(tensors: Mapping[str, torch.Tensor], path: Path, about: Mapping[str, Any] | None = None) -> Path:
    """Write tensors as a stage does."""
    save_tensors(path, {name: torch.as_tensor(tensor) for name, tensor in tensors.items()}, dict(about or {}))
    return path
