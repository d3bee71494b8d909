"""``asset.json`` of a model's folder: where it comes from, and the checksums of its files.

A checkpoint's weights are compared with their checksum before their first tensor is read, ``config.json`` and the
tokenizer's files before they are used: once per process and file, large ones once until they change
(``ramp.core.tensors``). A folder without ``asset.json``, a user's own, is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ramp.core.atomic_files import DamagedFile, read_json, sha256_file
from ramp.core.errors import RampError

FILE, SINGLE = "asset.json", "model.safetensors"
TEXTS = (".json", ".txt", ".model", ".jinja")
"""Endings of configuration and tokenizer files."""

AGAIN = "make the model again; where you changed it yourself, delete asset.json in that folder"


@dataclass(frozen=True)
class ModelAsset:
    """Fields that are read of ``asset.json``; it may hold more."""

    kind: str = ""  # wheel, hub, path or trained
    source: str = ""
    sha256: str = ""  # of what was fetched; of the weights, where they were trained
    licence: str | None = None
    note: str | None = None
    steps: int | None = None  # of training
    released_format: str | None = None
    files_sha256: dict[str, str] = field(default_factory=dict)  # by file; those of earlier versions lack it

    @property
    def checksums(self) -> dict[str, str]:
        """The known checksums by file."""
        return self.files_sha256 or ({SINGLE: self.sha256} if self.kind == "trained" else {})


def read_model_asset(folder: Path) -> ModelAsset | None:
    """Return what a model's folder says of itself; None where it has no ``asset.json``, ``RampError`` for no folder."""
    if not folder.is_dir():
        raise RampError(f"there is no folder {folder}: give the folder of a model")
    file = folder / FILE
    return read_json(file, ModelAsset, sealed=True, again=AGAIN) if file.is_file() else None


def file_checksums(folder: Path, weights: Iterable[Path]) -> dict[str, str]:
    """Return the checksums of a checkpoint's weights, configuration and tokenizer, by file."""
    files = sorted({*weights, *text_files(folder)})
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def text_files(folder: Path) -> list[Path]:
    """Return the configuration and tokenizer files of a folder."""
    return [path for path in sorted(folder.iterdir()) if path.suffix in TEXTS and path.name != FILE and path.is_file()]


def check_texts(folder: Path, files: Sequence[Path]) -> None:
    """Raise ``DamagedFile`` where a file is not the one that ``asset.json`` beside it lists."""
    asset = read_model_asset(folder) or ModelAsset()
    for path in files:
        if (known := asset.checksums.get(path.name)) and sha256_file(path) != known:
            raise DamagedFile(f"{path} is damaged, its bytes have another sha256 than when it was made: {AGAIN}")
