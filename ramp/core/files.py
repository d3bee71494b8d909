"""Files that are either whole or absent: written under a temporary name and renamed into place."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ramp.core.errors import RampError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it into place when the block ends without an error.

    The block may write a file or make a directory at the temporary path. An existing directory at
    ``path`` is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    remove(partial)
    try:
        yield partial
        if path.is_dir() and partial.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Delete partial files that a killed job left in ``folder``."""
    for left in folder.glob("*.partial"):
        remove(left)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_text(path: str | Path, what: str = "file") -> str:
    """Return a UTF-8 text without its byte order mark; a file that is none becomes one sentence that names ``what``."""
    path = require_file(path, what)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RampError(
            f"{path} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}): convert it, for example "
            f"with iconv -f LATIN1 -t UTF-8"
        ) from None
    except IsADirectoryError:
        raise RampError(f"{path} is a folder: give the {what} itself") from None


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, sorted and indented, so that a diff means a change."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON; a missing or broken file becomes one sentence."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RampError(f"no file {path}: run the stage that writes it first") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RampError(f"{path} is not valid JSON ({error}): delete it and run its stage again") from None


def sha256_file(path: str | Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_file(path: str | Path, what: str) -> Path:
    """Return ``path`` if it exists; else raise ``RampError`` that names ``what`` and where."""
    path = Path(path)
    if not path.exists():
        raise RampError(f"no {what} at {path}: check the path, or run the stage that writes it")
    return path


def finite(value: Any) -> Any:
    """Return a value that JSON can hold: numpy's numbers become Python's, NaN and infinities null."""
    if hasattr(value, "item"):  # numpy's scalars, without importing numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
