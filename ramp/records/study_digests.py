"""The file of digests: what the studies left behind, by stage, and the machine that each ran on.

The file is an object of studies by name, each a ``StudyDigests``.
``R/records/digests.json`` holds its one study; ``results/published/digests.json`` may hold several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ramp.core.atomic_files import read_json, require_file, write_json
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


@dataclass(frozen=True)
class _Configured:
    """Fields that are read of a finished study's configuration."""

    study: str


def read_study(results: Path) -> str:
    """Return the name of the study that finished in a results folder."""
    return read_json(require_file(results / "config.json", "configuration of a finished study"), _Configured).study


def read_digests(path: Path) -> dict[str, StudyDigests]:
    """Return study -> its digests; ``RampError`` where a file does not hold them."""
    return read_json(path, dict[str, StudyDigests], again="run python -m ramp digests again")


def write_digests(path: Path, studies: Mapping[str, StudyDigests]) -> None:
    """Write the file, atomically."""
    write_json(path, {name: entry.model_dump(mode="json") for name, entry in studies.items()})
