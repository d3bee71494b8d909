"""Files of one commit of the Hugging Face hub, brought into its client's cache and checked against the hub's checksums.

A killed download of ``huggingface_hub`` 2.4 starts again from the first byte and leaves a file that nobody removes (its
temporary names are unique). Here a file has one temporary name, and the next download asks by HTTP for the bytes that
lack. The client then finds whole files and makes its own snapshot of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.assets.fetched_files import FetchError, require_room
from ramp.assets.registry import RESOLVE, HubSource, has_wildcard
from ramp.core.atomic_files import remove, sha256_file
from ramp.core.cli import log

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

ATTEMPTS = 2
"""Downloads of a file whose bytes are not those that the hub publishes: the second is the last."""


def download_snapshot(name: str, source: HubSource) -> Path:
    """Bring the files of one commit (``resolve``: the newest) into the cache; return the folder of its snapshot.

    Every file, cached ones too, is compared with the checksum that the hub publishes (sha256 of large files, git's sha1
    of small ones). One that differs is deleted and fetched again; ``FetchError`` where it differs once more.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    newest = source.revision == RESOLVE
    commit = api.repo_info(source.repo, repo_type=source.repo_type, expand="sha").sha if newest else source.revision
    cache = RepositoryCache(source, str(commit))
    files = cache.listed(api)
    for _ in range(ATTEMPTS):
        require_room(cache.folder, sum(map(cache.missing_bytes, files)), name)
        for file in files:
            cache.download(file)
        folder = cache.snapshot(files)
        damaged = [file for file in files if _checksum(folder / file.path, file) != _published(file)]
        if not damaged:
            return folder
        for file in damaged:
            log.info("%s of %s is not what the hub publishes", file.path, source.repo)
            remove((folder / file.path).resolve())
            remove(folder / file.path)
    raise FetchError(
        f"{damaged[0].path} of {source.repo} came {ATTEMPTS} times with another checksum than the hub publishes: "
        "check the network or the mirror in HF_ENDPOINT and run again"
    )


def _published(file: RepoFile) -> str:
    """Return the checksum that the hub publishes of a file; it names the file in the cache."""
    return file.lfs.sha256 if file.lfs else file.blob_id


def _checksum(path: Path, file: RepoFile) -> str:
    """Return that checksum of the bytes at ``path``."""
    from huggingface_hub.utils.sha import git_hash

    return sha256_file(path) if file.lfs else git_hash(path.read_bytes())


class RepositoryCache:
    """The folder of one repository in the Hugging Face cache, for one commit."""

    def __init__(self, source: HubSource, commit: str) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self.source, self.commit = source, commit
        name = repo_folder_name(repo_id=source.repo, repo_type=source.repo_type)
        self.folder = Path(constants.HF_HUB_CACHE, name)
        self.locks = Path(constants.HF_HUB_CACHE, ".locks", name)  # those of the client

    def listed(self, api: HfApi) -> list[RepoFile]:
        """Return the commit's files that the source asks for.

        Names without a wildcard are asked for by name: a data set has tens of thousands of files.
        """
        from huggingface_hub.hf_api import RepoFile
        from huggingface_hub.utils import filter_repo_objects

        asked = list(self.source.files)
        where: dict[str, Any] = {"repo_type": self.source.repo_type, "revision": self.commit}
        if any(map(has_wildcard, asked)):
            entries = api.list_repo_tree(self.source.repo, recursive=True, **where)
        else:
            entries = api.get_paths_info(self.source.repo, asked, **where)
        files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
        return [files[path] for path in filter_repo_objects(files, allow_patterns=asked)]

    def snapshot(self, files: Sequence[RepoFile]) -> Path:
        """Return the folder in which the client links the files; it fetches those that are not there.

        For patterns the client lists the whole repository.
        """
        import huggingface_hub

        where: dict[str, Any] = {"repo_type": self.source.repo_type, "revision": self.commit}
        if any(map(has_wildcard, self.source.files)):
            patterns = list(self.source.files)
            return Path(huggingface_hub.snapshot_download(self.source.repo, allow_patterns=patterns, **where))
        for file in files:
            huggingface_hub.hf_hub_download(self.source.repo, file.path, **where)
        return self.folder / "snapshots" / self.commit

    def _blob(self, file: RepoFile) -> Path:
        return self.folder / "blobs" / _published(file)

    def _partial(self, file: RepoFile) -> Path:
        return self.folder / "blobs" / f"{_published(file)}.incomplete"

    def missing_bytes(self, file: RepoFile) -> int:
        """Return how many bytes of a file are still to be downloaded."""
        if self._blob(file).exists():
            return 0
        partial = self._partial(file)
        return max(0, file.size - (partial.stat().st_size if partial.is_file() else 0))

    def download(self, file: RepoFile) -> None:
        """Download a file that is not there, from where an earlier download stopped.

        The hub serves no file above 50 GB by HTTP: those are left to the client, which has another way.
        """
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import WeakFileLock, build_hf_headers

        blob, partial = self._blob(file), self._partial(file)
        if blob.exists() or file.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
            return
        blob.parent.mkdir(parents=True, exist_ok=True)
        self.locks.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(self.locks / f"{blob.name}.lock"):
            for left in blob.parent.glob(f"{blob.name}.*.incomplete"):  # of killed downloads by the client itself
                remove(left)
            if blob.exists():  # another process was quicker
                return
            if partial.is_file() and partial.stat().st_size > file.size:
                remove(partial)
            try:
                with open(partial, "ab") as stream:
                    if start := stream.tell():
                        log.info("%s: going on after %d of %d bytes", file.path, start, file.size)
                    http_get(
                        hf_hub_url(self.source.repo, file.path, repo_type=self.source.repo_type, revision=self.commit),
                        stream,
                        resume_size=start,
                        headers={**build_hf_headers(), "Accept-Encoding": "identity"},  # ranges count the file's bytes
                        expected_size=file.size,
                        displayed_filename=file.path,
                    )
                os.replace(partial, blob)
            finally:
                if partial.is_file() and not partial.stat().st_size:  # refused before the first byte
                    remove(partial)
