"""Files that cannot hold a checksum, because their bytes are read by others: it lies beside them, as sha256sum has it.

``rows.jsonl.sha256`` holds ``HEX  rows.jsonl``. The file is never there with another's checksum: the old checksum goes
first, the file comes, its checksum last. A file without one, as earlier versions and users write it, is not compared.
"""

from __future__ import annotations

from pathlib import Path

from ramp.core.atomic_files import DamagedFile, read_text, sha256_file, write_text

ENDING = ".sha256"


def sidecar_of(path: Path) -> Path:
    """Return the file that holds the checksum of another."""
    return path.with_name(path.name + ENDING)


def write_with_sidecar(path: Path, text: str) -> None:
    """Write UTF-8 text and its checksum beside it, each atomically."""
    sidecar_of(path).unlink(missing_ok=True)
    write_text(path, text)
    write_text(sidecar_of(path), f"{sha256_file(path)}  {path.name}\n")


def check_sidecar(path: Path, again: str) -> None:
    """Raise ``DamagedFile`` where a file is not the one whose checksum lies beside it; ``again``: the remedy."""
    beside = sidecar_of(path)
    if beside.is_file() and read_text(beside).split()[:1] != [sha256_file(path)]:
        raise DamagedFile(f"{path} is not the file whose sha256 stands in {beside.name}: {again}")
