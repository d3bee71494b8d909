"""Calibration and held-out text of one file: the suite's packaged ones, or the user's own."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ramp.assets.asset import fetch_asset
from ramp.assets.disjoint_roles import guard, write_texts
from ramp.assets.registry import Registry
from ramp.core.atomic_files import read_text, remove, require_file, sha256_file
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import Document, TextError, read_documents, write_documents


@dataclass(frozen=True)
class Texts:
    """Files of documents (JSON lines); the held-out one shares no paragraph with the others."""

    calibration: Path
    held_out: Path
    search: Path  # candidates of a search are scored on it; the calibration text where that is the user's own
    selection: Path  # its result is chosen on it; likewise
    training: Path  # scales are tuned on it and on the calibration text; likewise
    calibration_name: str  # for a reader: what it is
    held_out_name: str

    def used(self) -> list[Path]:
        """Return the texts that a file is made with."""
        return list(dict.fromkeys([self.calibration, self.search, self.selection, self.training]))

    def hashes(self) -> dict[str, str]:
        """Return sha256 by role."""
        return {"calibration": sha256_file(self.calibration), "held_out": sha256_file(self.held_out)}


PACKAGED = {"calibration": "C4 sample of exllamav2 0.3.2", "heldout": "Wikipedia sample of exllamav2 0.3.2"}
"""What the packaged texts are (config/assets.yaml)."""


def packaged_texts(registry: Registry, folder: Path) -> Path:
    """Write the packaged texts by role below ``folder``, unless they are there; return the folder of the roles."""
    roles = folder / "roles"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as handle:  # a second run waits, and finds them
        fcntl.lockf(handle, fcntl.LOCK_EX)
        _write_packaged(registry, folder, roles)
    return roles


def _write_packaged(registry: Registry, folder: Path, roles: Path) -> None:
    if not (roles / "guard.json").is_file():
        assets = folder / "assets"
        for name, asset in registry.of_type("text").items():
            if asset.text and asset.text.roles:
                fetch_asset(registry, name, assets / name)
        write_texts(registry, assets, [], roles)
        remove(assets)


def own_text(path: Path, folder: Path, role: str) -> Path:
    """Return a user's text as documents: a role's JSON lines as they are, other UTF-8 text as one document.

    The document's file in ``folder`` is named by its content, so that no other run writes into it.

    Raises ``TextError`` for a text that is a folder, empty, not UTF-8, or whose JSON lines are no documents of a role.
    """
    if require_file(path, f"text of {role}").is_dir():
        raise TextError(f"{path} is a folder: {role} takes a file of text")
    try:
        if path.suffix == ".jsonl":
            read_documents(path)
            return path
        text = read_text(path, f"text of {role}")
    except TextError as error:
        raise TextError(f"{error}; JSON lines are for texts of roles only: give other text as a .txt file") from None
    except OSError as error:
        raise TextError(f"{path} cannot be read ({error.strerror})") from None
    if not text.strip():
        raise TextError(f"{path} is empty: give a text of some thousand words")
    document = Document(path.name, text)
    out = folder / f"{path.stem}-{document.sha256[:12]}.jsonl"
    if not out.is_file():
        write_documents(out, [document])
    return out


def open_texts(registry: Registry, folder: Path, calibration: Path | None, held_out: Path | None) -> Texts:
    """Return the texts of a run below ``folder``; a path that is None means the packaged text of that role.

    Raises ``TextError`` where the two share a document or a long paragraph.
    """
    roles = packaged_texts(registry, folder) if calibration is None or held_out is None else folder
    own = None if calibration is None else own_text(calibration, folder, "--text")
    found = Texts(
        own or roles / "calibration.jsonl",
        roles / "heldout.jsonl" if held_out is None else own_text(held_out, folder, "--heldout-text"),
        own or roles / "search.jsonl",
        own or roles / "selection.jsonl",
        own or roles / "train.jsonl",
        PACKAGED["calibration"] if calibration is None else calibration.name,
        PACKAGED["heldout"] if held_out is None else held_out.name,
    )
    if calibration is not None or held_out is not None:
        used = {f"text {index}": read_documents(path) for index, path in enumerate(found.used())}
        try:
            guard({**used, "held-out": read_documents(found.held_out)})
        except TextError as error:
            raise TextError(
                f"{found.calibration_name} and {found.held_out_name} are not apart, so that a file would be judged on "
                f"what it was made with ({str(error).split(':')[0]}): give other text to --text or --heldout-text"
            ) from None
    return found


def require_windows(model: ModelFolder, texts: Texts, wanted: Iterable[tuple[str, int, int]]) -> None:
    """Raise ``TextError`` where a text is too short for its windows; each is (role, length, count)."""
    names = {texts.held_out: texts.held_out_name, texts.calibration: texts.calibration_name}
    for role, length, count in wanted:
        if length < 2:
            raise TextError(f"windows of {length} tokens predict nothing: ask for at least 2")
        path = getattr(texts, role)
        try:
            model.windows(path, length=length, count=count)
        except TextError as error:
            raise TextError(str(error).replace(str(path), names.get(path, str(path)))) from None
