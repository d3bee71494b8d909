"""Files that are either whole or absent: written under a temporary name and renamed into place; text and JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from ramp.core.errors import RampError
from ramp.core.stale_temporaries import owner, sweep

log = logging.getLogger("ramp")

T = TypeVar("T")

TRIES = 20
"""Attempts to put a folder in the place of another that other jobs replace at the same time."""

SEAL = "content_sha256"
"""Key under which a file of this project holds the sha256 of its own content."""

ITEMS = "items"
"""Key beside ``SEAL`` under which a file holds a list: readers get the list."""


class DamagedFile(RampError):
    """A file whose content is not what was written, or not of the kind that its reader expects."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it into place when the block ends without an error.

    The block may write a file or make a directory at the temporary path. An existing directory at
    ``path`` is replaced. What is renamed is on the disk before (fsync). What killed jobs left beside it is swept.
    """
    path = Path(path)
    if not path.name:
        raise RampError(f"'{path}' names no file or folder to write: give its path")
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    partial = path.with_name(f".{path.name}.{owner()}.partial")
    remove(partial)
    try:
        yield partial
        _onto_disk(partial)
        _replace(partial, path)
        _sync(path.parent)
    finally:
        remove(partial)


def _replace(partial: Path, path: Path) -> None:
    """Rename a file or folder into place; an old folder steps aside first, also where several jobs do so at once."""
    for attempt in range(TRIES):
        if path.is_dir() and partial.is_dir():
            aside = path.with_name(f".{path.name}.{owner()}.old.partial")
            with suppress(FileNotFoundError):  # another job was faster
                os.replace(path, aside)
            remove(aside)
        try:
            os.replace(partial, path)
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or attempt == TRIES - 1:
                raise


def _onto_disk(path: Path) -> None:
    """Wait until a file, or all of a folder, is on the disk."""
    for inner in sorted(path.rglob("*")) if path.is_dir() else ():
        if not inner.is_symlink():
            _sync(inner)
    if path.exists():
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some shared file systems have none for folders
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Delete partial files in a folder that a lock keeps every other job out of."""
    for left in (*folder.glob("*.partial"), *folder.glob("*.scratch")):
        remove(left)


def set_aside(path: Path, error: object) -> None:
    """Rename the damaged file or folder of work in progress, so that it is made again, and say so."""
    number = 1
    while (place := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    os.replace(path, place)
    log.warning("%s is damaged (%s): it is kept as %s, and what it held is made again", path, error, place.name)


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
        raise not_utf8(path, error) from None
    except IsADirectoryError:
        raise RampError(f"{path} is a folder: give the {what} itself") from None


def not_utf8(path: Path, error: UnicodeDecodeError) -> RampError:
    """Return the error for a text in another encoding."""
    code = "UTF-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "LATIN1"
    return RampError(
        f"{path} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}): convert it, for example "
        f"with iconv -f {code} -t UTF-8"
    )


def json_text(value: Any) -> str:
    """Return JSON sorted and indented, so that a diff means a change."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def seal(value: Any) -> dict[str, Any]:
    """Return a value of JSON with the sha256 of its content under ``SEAL``; a list stands under ``ITEMS`` beside it."""
    return {**(value if isinstance(value, dict) else {ITEMS: value}), SEAL: _digest(json_text(value))}


def write_json(path: str | Path, value: Any, *, sealed: bool = False) -> None:
    """Write JSON atomically; ``sealed``: with its checksum (``seal``)."""
    write_text(path, json_text(seal(value) if sealed else value))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache
def _validator(model: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(model)


def _integer(text: str) -> int:
    """Return an integer; ``ValueError`` for one that arrays and tables cannot hold."""
    value = int(text)
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"the integer {text[:24]}... has more than 64 bits")
    return value


def finite_number(text: str) -> float:
    """Return a number that JSON allows; ``ValueError`` for NaN and infinities."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def parse_json(text: str | bytes, model: type[T], what: str) -> T:
    """Return JSON as a pydantic model, or another type that pydantic can check; ``DamagedFile`` names ``what``."""
    from pydantic import ValidationError

    try:
        integer = int if model is object else _integer  # files of others hold longer ones, which nobody computes with
        value = json.loads(text, parse_float=finite_number, parse_constant=finite_number, parse_int=integer)
        if isinstance(value, dict) and SEAL in value:
            seal = value.pop(SEAL)
            value = value[ITEMS] if value.keys() == {ITEMS} else value
            if seal != _digest(json_text(value)):
                raise ValueError(f"its content has another sha256 than its {SEAL}")
        checked: T = _validator(cast(Hashable, model)).validate_python(value)
        return checked
    except ValidationError as error:
        raise DamagedFile(f"{what} does not hold what it should ({faults(error)})") from None
    except RecursionError:
        raise DamagedFile(f"{what} is not valid JSON (nested too deeply)") from None
    except ValueError as error:  # not JSON, not text, a number that is none
        raise DamagedFile(f"{what} is not valid JSON ({' '.join(str(error).split())[:160]})") from None


def faults(error: Any) -> str:
    """Return the first faults that pydantic found, with their places."""
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'content'}: {each['msg']}" for each in found[:3])[:300]


def read_json(path: str | Path, model: type[T], *, sealed: bool = False, again: str = "") -> T:
    """Read JSON as a pydantic model, or another type that pydantic can check; every fault becomes one sentence.

    A checksum under ``SEAL`` is compared and taken away (of a list, its object too), and with ``sealed`` it must be
    there. ``again``: the remedy.
    """
    path = Path(path)
    again = again or "delete it and run its stage again"
    _refuse_pipe(path)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise RampError(f"no file {path}: run the stage that writes it first") from None
    except IsADirectoryError:
        raise RampError(f"{path} is a folder: give the file itself") from None
    if sealed and f'"{SEAL}":'.encode() not in text:
        raise DamagedFile(f"{path} has no checksum of its content: {again}")
    try:
        return parse_json(text, model, str(path))
    except DamagedFile as error:
        raise DamagedFile(f"{error}: {again}") from None


def sha256_file(path: str | Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_file(path: str | Path, what: str) -> Path:
    """Return ``path`` if it is a file or a folder; else raise ``RampError`` that names ``what`` and where."""
    path = Path(path)
    if not path.exists():
        raise RampError(f"no {what} at {path}: check the path, or run the stage that writes it")
    _refuse_pipe(path)
    return path


def _refuse_pipe(path: Path) -> None:
    """Raise ``RampError`` for what would keep a reader waiting: a pipe, a socket, a device."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise RampError(f"{path} is no file (a pipe or a device): give the path of a file")


def finite(value: Any) -> Any:
    """Return a value that JSON can hold: numpy's numbers become Python's, NaN and infinities null."""
    if hasattr(value, "item"):  # numpy's scalars, without importing numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
