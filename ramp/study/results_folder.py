"""Results folder of a study: one of its own, not one of the project's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ramp.core.output_path import unexpanded

SOURCES = (
    *("ramp", "baselines", "benchmarks", "config", "docs", "paper", "profiles", "tests", "workflow"),
    *(".ci", ".git", ".github", ".envs", ".venv", ".snakemake", "results/published"),
)
"""Folders of the project that hold what no study makes."""


def results_faults(results: str, root: Path) -> Iterator[str]:
    """Yield why ``results``, seen from the working directory, is no folder to write to; ``root`` is the project's."""
    if meant := unexpanded(results):
        yield f"results: '{results}' holds a ~ or a variable, which nothing replaces here: write '{meant}'"
        return
    try:
        yield from _place_faults(results, root)
    except OSError as error:
        yield f"results: '{results[:40]}...' can be no folder ({error.strerror}): name another one"


def _place_faults(results: str, root: Path) -> Iterator[str]:
    folder, root = Path(results).resolve(), root.resolve()
    taken = next((name for name in SOURCES if folder.is_relative_to((root / name).resolve())), None)
    if root.is_relative_to(folder):
        yield f"results: '{results}' holds the project itself: name a folder for results alone"
    elif taken is not None:
        yield f"results: '{results}' is or lies in {taken}/, which belongs to the project: name another folder"
    elif file := next((each for each in (folder, *folder.parents) if each.exists() and not each.is_dir()), None):
        yield f"results: '{results}' is no folder, {file} is a file: name another folder"
