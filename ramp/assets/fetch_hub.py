"""Files of one commit of a Hugging Face repository as an asset: pinned, checked, cached."""

from __future__ import annotations

from pathlib import Path

from ramp.assets.checksum_lock import Lock, take
from ramp.assets.fetched_files import Fetched, FetchError, SourceAbsent, tree_files
from ramp.assets.hub_access import cached_snapshot, reason, unreachable
from ramp.assets.hub_download import download_snapshot
from ramp.assets.registry import RESOLVE, HubSource, has_wildcard
from ramp.core.safe_path import below


def fetch_hub(name: str, source: HubSource, lock: Lock, out_dir: Path) -> Fetched:
    """Fetch files of one commit; an interrupted download is resumed, a cached commit needs no network."""
    pinned, known = pinned_source(name, source, lock)
    folder = hub_snapshot(name, pinned, known)
    single = len(source.files) == 1 and not has_wildcard(source.files[0])
    path = below(folder, source.files[0], lock.path) if single else folder
    if not path.exists() or not tree_files(path):
        raise FetchError(
            f"{source.repo} has no file that matches {', '.join(source.files)}: correct 'files' in the registry"
        )
    lock.settle(name, source.repo, "revision", source.revision, folder.name)
    return take(name, lock, path, out_dir, kind="hub", source=source.repo, declared=source.sha256, revision=folder.name)


def pinned_source(name: str, source: HubSource, lock: Lock) -> tuple[HubSource, bool]:
    """Return the source at the commit that registry or lock name, and whether its checksum is known."""
    commit = lock.settle(name, source.repo, "revision", source.revision, None)
    known = lock.settle(name, source.repo, "sha256", source.sha256, None) != RESOLVE
    return source.model_copy(update={"revision": commit}), known


def hub_snapshot(name: str, source: HubSource, known: bool) -> Path:
    """Return the folder of one commit in the Hugging Face cache; every failure becomes one sentence.

    ``known``: its checksum is locked. Without an answer of the hub only such a snapshot is used, since an interrupted
    first download looks like a small one.
    """
    from huggingface_hub import errors

    what = f"{source.repo_type} {source.repo}"
    try:
        return download_snapshot(name, source)
    except unreachable() as error:
        refused = isinstance(error, errors.HfHubHTTPError) and error.response.status_code < 500
        if known and not refused:
            try:
                return cached_snapshot(source)
            except errors.LocalEntryNotFoundError:
                pass
        sentence = f"{what} {reason(error, source)}"
        raise (FetchError if isinstance(error, errors.HfHubHTTPError) else SourceAbsent)(sentence) from None
    except OSError as error:
        if error.errno is None:  # the client's own: fewer or more bytes than announced
            raise FetchError(f"{what} was not received whole ({str(error).splitlines()[0]}): run again") from None
        raise FetchError(f"{what}: cannot use the Hugging Face cache ({error.strerror}): set HF_HOME") from None
