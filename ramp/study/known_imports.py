"""Imports of the project's source files, kept from one run of Snakemake to the next.

To know the sources of every rule, hundreds of files are parsed, which takes longer than all else that is ours in a dry
run. What a file imports follows from its content, so it is kept by a hash of that: an edited file is parsed again.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from ramp.core import source_closure
from ramp.core.atomic_files import read_json, sha256_file, write_json
from ramp.core.errors import RampError


class KnownImports:
    """Imports of source files in a file of JSON; one that is missing or damaged is made again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, list[str]] = {}
        self.used: dict[str, list[str]] = {}
        self.reading = sha256_file(source_closure.__file__)  # another way to read imports reads them all again
        with suppress(RampError, OSError):
            self.known = read_json(file, dict[str, list[str]], sealed=True)

    def modules(self, text: bytes, file: str) -> list[str]:
        """Return what ``source_closure.modules_of`` does."""
        key = hashlib.sha256(f"{self.reading} {file}\n".encode() + text).hexdigest()
        if key not in self.used:
            self.used[key] = self.known[key] if key in self.known else source_closure.modules_of(text, file)
        return self.used[key]

    def keep(self) -> None:
        """Write what was used, where some of it is new; a folder that cannot be written costs time alone."""
        if self.used.keys() - self.known.keys():
            with suppress(OSError):
                write_json(self.file, self.used, sealed=True)
