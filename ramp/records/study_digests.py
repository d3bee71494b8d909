"""The file of digests: what the studies left behind, by stage, and the machine that each ran on.

The file is an object of studies by name, each a ``StudyDigests``.
``R/records/digests.json`` holds its one study; ``results/published/digests.json`` may hold several.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ramp.core.errors import RampError
from ramp.core.files import read_json, write_json
from ramp.core.provenance import Machine

FILE = "digests.json"


class StageDigests(BaseModel):
    """The files of one stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    stage: str  # its name, in pipeline order
    files: dict[str, str]  # path below the results folder -> first digits of the sha256 of its content


class StudyDigests(BaseModel):
    """Everything that a finished study left behind, and the machine that it ran on."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    config_hash: str  # of the study's configuration, as in the records; empty where it was not given
    machine: Machine  # that wrote the digests: on a cluster, one of several
    hardware: list[str]  # processors and GPUs that evaluated rows
    dtype: list[str]  # arithmetic of the evaluated rows
    versions: dict[str, str]  # name -> version of the software
    stages: list[StageDigests]  # in pipeline order


_STUDIES = TypeAdapter(dict[str, StudyDigests])


def read_digests(path: Path) -> dict[str, StudyDigests]:
    """Return study -> its digests; ``RampError`` where a file does not hold them."""
    try:
        return _STUDIES.validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise RampError(
            f"{path} holds no digests ({place}: {first['msg']}): run python -m ramp digests again"
        ) from None


def write_digests(path: Path, studies: Mapping[str, StudyDigests]) -> None:
    """Write the file, atomically."""
    write_json(path, {name: entry.model_dump(mode="json") for name, entry in studies.items()})
