"""Summary, in a few words, of the files that a run of Snakemake was asked for and that are there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MOST_IN_FOLDER = 3
"""Files of one folder that are named; of more, the folder is."""

MOST_NAMED = 8
"""Files and folders that are named."""


def asked_files(jobs: Iterable[Any]) -> dict[str, list[str]]:
    """Return the files behind every target's job, by rule: what it writes; if that is nothing, what it asks for."""
    found: dict[str, list[str]] = {}
    for job in sorted(jobs, key=lambda job: (job.rule.name, [*map(str, job.output)])):
        found.setdefault(job.rule.name, []).extend(map(str, job.output or job.input))
    return {rule: list(dict.fromkeys(files)) for rule, files in found.items()}


def made_lines(asked: dict[str, list[str]]) -> Iterator[str]:
    """Yield a line for every target: how many of its files are there, and which."""
    for rule, files in asked.items():
        if there := [file for file in files if Path(file).exists()]:
            yield f"{rule}: {len(there)} of {len(files)} files: {in_words(there)}"


def in_words(files: Iterable[str]) -> str:
    """Return files by name, those of a folder with many of them by its name and their number."""
    folders: dict[str, list[str]] = {}
    for file in files:
        folders.setdefault(os.path.dirname(file), []).append(file)
    groups = [
        group
        for folder, inside in folders.items()
        for group in (
            [(file, 1) for file in inside]
            if len(inside) <= MOST_IN_FOLDER
            else [(f"{folder}/ ({len(inside)} files)", len(inside))]
        )
    ]
    words = [name for name, _ in groups[:MOST_NAMED]]
    if more := sum(count for _, count in groups[MOST_NAMED:]):
        words.append(f"and {more} more")
    return ", ".join(words)
