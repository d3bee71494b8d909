"""The smoke run that the workflow tests stand on (made if there is none), and a copy of it that they may break."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from calls import PUBLISHED, REPO, SMOKE, Done, smoke_plan, snakemake

NOT_COPIED = {".git", ".venv", ".envs", "results", ".snakemake"}
CACHES = {".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache"}
LINKED_FROM_BYTES = 4_000_000  # larger files are never written again in place: a link does


@pytest.fixture(scope="session")
def smoke() -> Path:
    """Results of the smoke study in this checkout: those that are there and up to date, else of a run made now."""
    if smoke_plan(REPO):
        done = snakemake(REPO, "--cores", "all", "--configfile", "config/smoke.yaml", timeout=1500)
        assert done.status == 0, done.text[-8000:]
    return REPO / SMOKE


def copy_file(source: str, target: str) -> str:
    """Copy with times (Snakemake compares them); link what is large."""
    if os.path.getsize(source) < LINKED_FROM_BYTES:
        return str(shutil.copy2(source, target))
    os.link(source, target)
    return target


def not_copied(_: str, names: list[str]) -> set[str]:
    """What a clone lacks; a file that another process is just compiling has a name of its own until it is whole."""
    return (NOT_COPIED | CACHES) & set(names) | {name for name in names if ".pyc." in name}


def copy_project(target: Path) -> Path:
    """The project as a clone has it: of the results, the published ones alone.

    Compiled modules go along, else every clone compiles the project again; they fit, as the sources keep their times.
    """
    shutil.copytree(REPO, target, ignore=not_copied, symlinks=True)
    shutil.copytree(REPO / PUBLISHED, target / PUBLISHED)
    return target


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout without results."""
    return copy_project(tmp_path / "bare")


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without results that nobody changes."""
    return copy_project(tmp_path_factory.mktemp("plan") / "clone")


@pytest.fixture(scope="session")
def plan(untouched: Path) -> Callable[..., Done]:
    """Dry runs in a checkout without results that nobody changes: the same arguments are planned once."""

    @cache
    def call(*arguments: str) -> Done:
        return snakemake(untouched, "-n", *arguments)

    return call


@pytest.fixture
def study(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the finished smoke run and Snakemake's records of it, to break at will.

    It lies on the checkout's own disk where that allows links, so that nothing large is copied.
    """
    target = copy_project(tmp_path_factory.mktemp("study") / "copy")
    copy: Callable[[str, str], str] = copy_file
    if os.stat(target).st_dev != os.stat(smoke).st_dev:
        copy = shutil.copy2  # type: ignore[assignment]  # the overloads of copy2
    shutil.copytree(smoke, target / SMOKE, copy_function=copy, symlinks=True)
    shutil.copytree(REPO / ".snakemake" / "metadata", target / ".snakemake" / "metadata", copy_function=shutil.copy2)
    return target
