"""The list of checksums of an archive, and whether the archive holds to it.

``SHA256SUMS`` has one line for every other file, as sha256sum writes it: after unpacking, ``sha256sum -c SHA256SUMS``
checks the archive without this project. The sha256 of that list is the id of the archive. If you have the id from
another place than the archive, ``verify --id`` shows that nothing was replaced, list and metadata included.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ramp.archive.container import Archive, ArchiveError
from ramp.archive.crate import METADATA, described
from ramp.core.errors import RampError

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def sums_text(sums: Mapping[str, str]) -> str:
    """Return the list of checksums, sorted by name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def read_sums(text: bytes, where: str) -> dict[str, str]:
    """Return name -> sha256 of a list of checksums; ``ArchiveError`` names a line that is none."""
    found: dict[str, str] = {}
    try:
        lines = text.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ArchiveError(f"{where}: {SUMS} is not UTF-8: get the archive again") from None
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise ArchiveError(f"{where}: {SUMS}, line {number} is no checksum of a file: get the archive again")
        found[match[2]] = match[1]
    return found


@dataclass
class Held:
    """Result of comparing an archive's files with its checksums."""

    id: str  # sha256 of the list
    files: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)  # sentences: where RO-Crate and list disagree

    @property
    def holds(self) -> bool:
        """Return whether every file is there, unchanged, and nothing else."""
        return not (self.missing or self.added or self.changed or self.metadata)

    def lines(self) -> list[str]:
        """Return the report."""
        counts = f"{self.files:,} files, {self.bytes / 1e6:.1f} MB, id {self.id}"
        if self.holds:
            return [f"the archive holds to its checksums: {counts}"]
        kinds = (("missing", self.missing), ("added", self.added), ("changed", self.changed))
        found = [f"the archive does NOT hold to its checksums: {counts}"]
        found += [f"  {kind}: {name}" for kind, names in kinds for name in names]
        return found + [f"  {sentence}" for sentence in self.metadata]


def check(archive: Archive) -> Held:
    """Hash every file of an archive; ``ArchiveError`` where it has no list of checksums."""
    listed = archive.read(SUMS)
    sums = read_sums(listed, str(archive.path))
    held = Held(hashlib.sha256(listed).hexdigest())
    names = set(archive.names) - {SUMS}
    held.missing, held.added = sorted(set(sums) - names), sorted(names - set(sums))
    for name in sorted(names & set(sums)):
        held.files += 1
        held.bytes += archive.size(name)
        try:
            same = archive.sha256(name) == sums[name]
        except ArchiveError:  # damaged bytes are changed ones
            same = False
        if not same:
            held.changed.append(name)
    if METADATA not in held.missing + held.changed:
        held.metadata = _against_metadata(archive, sums)
    return held


def _against_metadata(archive: Archive, sums: Mapping[str, str]) -> list[str]:
    """Return where the RO-Crate metadata say other than the list of checksums."""
    try:
        files = described(json.loads(archive.read(METADATA)))
    except (RampError, ValueError, RecursionError) as error:
        return [f"{METADATA}: {error}"]
    listed = set(sums) - {METADATA}
    found = [f"{METADATA} describes {name}, which is not listed" for name in sorted(set(files) - listed)]
    found += [f"{METADATA} does not describe {name}" for name in sorted(listed - set(files))]
    for name in sorted(listed & set(files) & set(archive.names)):
        if files[name].sha256 != sums[name] or files[name].size != archive.size(name):
            found.append(f"{METADATA} has another sha256 or size for {name}")
    return found
