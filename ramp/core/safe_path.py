"""Files that another file names: what comes from outside stays below its folder (names: ``ramp.core.safe_name``)."""

from __future__ import annotations

from pathlib import Path

from ramp.core.errors import RampError


def relative_parts(name: str) -> list[str]:
    """Return the parts of a path that leads down from a folder; ``ValueError`` for any other."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise ValueError(f"'{name}' is no path below a folder: use names between slashes, without '..'")
    return parts


def below(folder: Path, name: str, named_by: str | Path) -> Path:
    """Return the path of a file that another file (``named_by``) names; ``RampError`` where it lies outside ``folder``.

    The file itself may be a link: the workflow makes links to the files of a checkpoint.
    """
    try:
        return folder.joinpath(*relative_parts(name))
    except (ValueError, AttributeError):
        raise RampError(
            f"{named_by} names the file {name!r}, which is not below {folder}: make that file again"
        ) from None
