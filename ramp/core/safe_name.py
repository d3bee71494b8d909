"""Types of names that become paths, for the models of configurations and registries."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from ramp.core.safe_path import relative_parts

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
LONGEST_NAME = 100  # a file's name has 255 bytes, and names are joined with others

SafeName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=LONGEST_NAME)]
"""A name that becomes a file or a folder: lower case, since some disks make no difference."""


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
