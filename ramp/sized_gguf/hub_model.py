"""A model of the Hugging Face hub: the files of one commit that a GGUF file is made of, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from ramp.assets.fetch_hub import hub_snapshot
from ramp.assets.fetched_files import FetchError, SourceAbsent
from ramp.assets.hub_download import RepositoryCache
from ramp.assets.registry import RESOLVE, HubSource
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.models.folder import INDEX, SINGLE, checkpoint_files

REPOSITORY = r"[A-Za-z0-9][\w.-]*/\w[\w.-]*"
"""Expression of a name on the hub."""

DESCRIPTION = (
    INDEX, "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "*.jinja",
)  # fmt: skip
"""Files beside the weights: configuration, tokenizer, chat template (``*.jinja``, where transformers 5 saves it)."""


def hub_model(repo: str, commit: str) -> Path:
    """Return the snapshot of a repository at a commit of 40 digits (empty: the newest one) in the hub's cache.

    Weights are those that the index names, or the one file of a checkpoint without an index: a repository may hold
    others, which nobody reads. A commit that is whole in the cache needs no network; where the hub does not answer,
    neither does the newest one that is.

    Raises ``FetchError``.
    """
    if commit and not re.fullmatch("[0-9a-f]{40}", commit):
        raise FetchError(f"'{commit}' is no commit of {repo}: give its 40 hexadecimal digits, or none for the newest")
    if commit and (found := _whole(repo, commit)):
        return found
    try:
        folder = hub_snapshot(repo, _source(repo, commit or RESOLVE, DESCRIPTION), known=False)
    except SourceAbsent as error:
        if commit or (kept := _newest(repo)) is None:
            raise
        log.warning("%s: commit %s, which is in the cache, is used", error, kept.name)
        return kept
    hub_snapshot(repo, _source(repo, folder.name, _weights(folder)), known=False)
    if not all((folder / name).is_file() for name in _weights(folder)):
        raise FetchError(
            f"{repo} has no {SINGLE} and no {INDEX} with its files: save it as safetensors with transformers, and give "
            "that folder"
        )
    return folder


def _source(repo: str, revision: str, files: tuple[str, ...]) -> HubSource:
    return HubSource(kind="hub", repo=repo, revision=revision, files=files, sha256=RESOLVE)


def _weights(folder: Path) -> tuple[str, ...]:
    """Return the files of weights that the description of a checkpoint names, there or not."""
    if not (folder / INDEX).is_file():
        return (SINGLE,)
    return tuple(path.relative_to(folder).as_posix() for path in checkpoint_files(folder))


def _snapshots(repo: str) -> Path:
    return RepositoryCache(_source(repo, RESOLVE, DESCRIPTION), "").folder / "snapshots"


def _whole(repo: str, commit: str) -> Path | None:
    """Return a commit's snapshot in the cache; None where a file is missing.

    Weights come last here, and other clients bring a tokenizer with all its files.
    """
    folder = _snapshots(repo) / commit
    try:
        needed = ["config.json", *_weights(folder)]
    except RampError:  # a damaged index: it is fetched again
        return None
    whole = all((folder / name).is_file() for name in needed) and any(folder.glob("tokenizer*"))
    return folder if whole else None


def _newest(repo: str) -> Path | None:
    """Return the whole snapshot that was made last."""
    folders = sorted(_snapshots(repo).glob("*"), key=lambda path: path.stat().st_mtime)
    return next((path for path in reversed(folders) if _whole(repo, path.name)), None)
