"""The files of an archive: which of a results folder, and which of the project. No weights of a model, no texts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramp.core.errors import RampError
from ramp.records.intermediate_digests import STAGES

RESULTS, CODE = "results", "code"
"""Folders of an archive: what a study left behind, and the project that made it."""


@dataclass(frozen=True)
class Part:
    """Files of one kind: patterns below the results folder."""

    title: str
    patterns: tuple[str, ...]


def _of_stages(*names: str) -> tuple[str, ...]:
    """Return the patterns by which digests know these stages' files, of JSON alone."""
    found = [pattern for stage in STAGES if stage.name in names for pattern in stage.patterns]
    return tuple(f"{pattern}.json" if pattern.endswith("/*") else pattern for pattern in found)


PARTS = (
    Part("records", ("records/*.csv", "records/*.json")),
    Part("configuration and comparison", ("config.json", "compare.md", "check.json")),
    Part("paper: PDF, source tables, figures, values", ("paper/**/*",)),
    Part("reports", ("report.html", "index.html")),
    Part("manifests of assets, models and texts", ("assets/*/asset.json", "models/*/asset.json", "texts/guard.json")),
    Part("manifests of banks and rows", ("bank/*/*/bank.json", "quantized/*/*/meta.json")),
    Part("sensitivities", ("sensitivity/**/*.json",)),
    Part("allocations", ("allocations/**/*.json",)),
    # a policy is a network of the search, not of the model
    Part("searches and policies", tuple(f"search/**/{name}" for name in ("policy.*", "episodes.jsonl", "summary.txt"))),
    Part("metrics per window", ("metrics/**/*.json", "tasks_scored/**/*.json")),
    Part("plans and checks of exported files", ("halo/**/*.json", "halo/**/*.txt", "halo/**/*.md", "gguf/*/*.json")),
    # patterns of the digests: a study may lie in a folder of another (results/league)
    Part("leagues, optimum, folds", _of_stages("league", "optimum", "fold_ablation")),
)
"""What a results folder gives to an archive, in pipeline order of what a reader opens first."""

PUBLISHED = Part("records", ("*.csv", "*.json"))
"""What a folder of records alone gives, e.g. results/published."""

WITHOUT_GIT = ("results", "logs")
"""Folders of the project that hold no source: left out where git cannot tell (results/published is kept)."""


def study_files(folder: Path) -> dict[str, Path]:
    """Return path in the archive -> file of a results folder, or of a folder of records.

    Raises:
        RampError: no records there, or a link that leads out of the folder.
    """
    records = folder / "records" / "records.csv"
    if not records.is_file() and not (folder / "records.csv").is_file():
        raise RampError(f"{folder} holds no records.csv: finish the study, or name its results folder")
    parts, below = (PARTS, RESULTS) if records.is_file() else ((PUBLISHED,), f"{RESULTS}/records")
    found = {path for part in parts for pattern in part.patterns for path in folder.glob(pattern) if path.is_file()}
    return {f"{below}/{name}": path for name, path in _inside(folder, found)}


def _inside(folder: Path, files: set[Path]) -> Iterator[tuple[str, Path]]:
    """Yield (name, file) without hidden ones, which are temporary; ``RampError`` for a link that leads out."""
    root = folder.resolve()
    for path in sorted(files):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        if not path.resolve().is_relative_to(root):
            raise RampError(f"{path} is a link that leads out of {folder}: copy the file there, or remove the link")
        yield name.as_posix(), path


OWN_CODE = ("baselines", "config", "ramp")
"""Folders whose untracked files make results: a method, a configuration, a model family of the user's own."""


def code_files(root: Path) -> dict[str, Path]:
    """Return path in the archive -> file of the project: what git tracks, and methods of the user's own.

    Without git every source file.
    """
    names = _tracked(root) or sources(root)
    return {f"{CODE}/{name}": root / name for name in sorted(names) if (root / name).is_file()}


def _tracked(root: Path) -> list[str]:
    """Return the files that git tracks below ``root``, and those of ``OWN_CODE`` that it does not know yet.

    None outside git, or where git knows another project.
    """
    found: list[str] = []
    for what in (["--cached"], ["--others", "--exclude-standard", "--", *OWN_CODE]):
        try:
            command = ["git", "ls-files", "-z", *what]
            done = subprocess.run(command, cwd=root, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return []
        names = [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
        if done.returncode or "ramp/__init__.py" not in (found or names):
            return []
        found += names
    return found


def sources(root: Path) -> list[str]:
    """Return the files of a source tree without git: no hidden folders but CI's, no caches, no results of a run."""
    found = []
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if _is_source(here / name)]
        found += [(here / name).as_posix() for name in files if not name.endswith((".pyc", ".partial"))]
    return found


def _is_source(folder: Path) -> bool:
    """Return whether a folder below the project holds sources."""
    if folder.parts[0] in WITHOUT_GIT:
        return folder.parts[:2] == ("results", "published") or folder.parts == ("results",)
    hidden = folder.name.startswith(".") and folder.name not in (".ci", ".github")
    return not hidden and not folder.name.endswith(("__pycache__", ".egg-info"))
