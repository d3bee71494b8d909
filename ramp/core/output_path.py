"""Paths that a stage writes to: told before its work where nothing can be written there; nothing is left there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PosixPath

from ramp.core.errors import RampError
from ramp.core.stale_temporaries import owner


class OutputFile(PosixPath):
    """A file that a stage writes: the type of an option that ``ramp.core.cli.Parser`` looks at."""


class OutputFolder(PosixPath):
    """A folder that a stage writes into or replaces, likewise."""


def check_path(path: Path, where: str) -> None:
    """Raise ``RampError`` for a path that a shell should have changed, or an output that cannot be written.

    ``where`` is the option that names it. Folders on the way may be missing: the nearest one is tried.
    """
    if meant := unexpanded(path):
        raise RampError(f"{where} {path} holds a ~ or a variable, which nothing replaces here: write {meant}")
    if not isinstance(path, OutputFile | OutputFolder):
        return
    folder = isinstance(path, OutputFolder)
    try:
        if path.exists() and path.is_dir() != folder:
            found, made = ("file", "folder") if folder else ("folder", "file")
            raise RampError(f"{where} {path} is a {found}, where a {made} is to be written: name another place")
        if path.name:
            path.with_name(f".{path.name}.{owner()}.old.partial").exists()  # where that is too long, it raises
        tried = next(each for each in ([path] if folder else []) + [*path.parents] if each.exists())
        tempfile.TemporaryFile(dir=tried).close()  # has no name, or loses it at once
    except OSError as error:
        raise RampError(f"{where} {path} cannot be written ({error.strerror}): name another place") from None


def unexpanded(path: str | Path) -> str | None:
    """Return what a shell makes of a path that begins with ``~`` or names a variable; None where it keeps it."""
    text = os.path.expandvars(os.path.expanduser(path))
    return None if text == str(path) else text
