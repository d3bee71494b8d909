"""Names that become paths, and files that another file names: what comes from outside stays below its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from ramp.core.errors import RampError

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
LONGEST_NAME = 100  # a file's name has 255 bytes, and names are joined with others

SafeName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=LONGEST_NAME)]
"""A name that becomes a file or a folder: lower case, since some disks make no difference."""


def relative_parts(name: str) -> list[str]:
    """Return the parts of a path that leads down from a folder; ``ValueError`` for any other."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise ValueError(f"'{name}' is no path below a folder: use names between slashes, without '..'")
    return parts


def _relative(name: str) -> str:
    relative_parts(name)
    return name


def _single(name: str) -> str:
    if len(relative_parts(name)) > 1 or len(name.encode()) > LONGEST_NAME or name.startswith("."):
        raise ValueError(f"'{name}' is no name of a file: use one name, without slashes, not hidden")
    return name


RelativeFile = Annotated[str, AfterValidator(_relative)]
"""A file below some folder, or a member of an archive."""
FileName = Annotated[str, AfterValidator(_single)]
"""A file in some folder."""


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
