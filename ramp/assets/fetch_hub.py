"""Files of one commit of a Hugging Face repository, through the Hugging Face cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ramp.assets.checksum_lock import Lock, take
from ramp.assets.fetched_files import Fetched, FetchError, SourceAbsent, require_room, tree_files
from ramp.assets.registry import RESOLVE, HubSource


def fetch_hub(name: str, source: HubSource, lock: Lock, out_dir: Path) -> Fetched:
    """Fetch files of one commit; an interrupted download is resumed, a cached commit needs no network."""
    pinned = lock.settle(name, source.repo, "revision", source.revision, None)
    checked = lock.settle(name, source.repo, "sha256", source.sha256, None)
    folder = hub_snapshot(name, source, None if pinned == RESOLVE else pinned, known=checked != RESOLVE)
    single = len(source.files) == 1 and not set("*?[") & set(source.files[0])
    path = folder / source.files[0] if single else folder
    if not path.exists() or not tree_files(path):
        raise FetchError(
            f"{source.repo} has no file that matches {', '.join(source.files)}: correct 'files' in the registry"
        )
    lock.settle(name, source.repo, "revision", source.revision, folder.name)
    return take(name, lock, path, out_dir, kind="hub", source=source.repo, declared=source.sha256, revision=folder.name)


def hub_snapshot(name: str, source: HubSource, revision: str | None, known: bool) -> Path:
    """Return the folder of one commit in the Hugging Face cache; every failure becomes one sentence.

    ``known``: its checksum is locked. Without a network only such a snapshot is used, since an interrupted first
    download looks like a small one.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors

    what = f"{source.repo_type} {source.repo}" + (f" at {revision[:12]}" if revision else "")
    wanted: dict[str, Any] = {
        "repo_id": source.repo,
        "repo_type": source.repo_type,
        "revision": revision,
        "allow_patterns": list(source.files),
    }
    try:
        try:
            plan = huggingface_hub.snapshot_download(**wanted, dry_run=True)
            require_room(Path(constants.HF_HUB_CACHE), sum(file.file_size for file in plan if file.will_download), name)
            return Path(huggingface_hub.snapshot_download(**wanted))
        except errors.HfHubHTTPError:
            raise
        except (errors.LocalEntryNotFoundError, errors.DryRunError, errors.HTTPError, ConnectionError) as error:
            cause = error.__cause__ or error  # the hub's client wraps what went wrong
            if isinstance(cause, errors.HfHubHTTPError):
                raise cause from None
            if known:
                return Path(huggingface_hub.snapshot_download(**wanted, local_files_only=True))
            reason = "offline mode is on" if isinstance(cause, errors.OfflineModeIsEnabled) else type(cause).__name__
            raise SourceAbsent(f"{what} is not in the cache and the hub cannot be reached ({reason})") from None
    except errors.LocalEntryNotFoundError:
        raise SourceAbsent(f"{what} is not in the cache and the hub cannot be reached") from None
    except errors.GatedRepoError:
        page = f"https://huggingface.co/{source.repo}"
        raise FetchError(f"{what} is gated: accept its licence at {page}, set HF_TOKEN and run again") from None
    except errors.RevisionNotFoundError:
        raise FetchError(f"{what}: the hub has no such commit: correct 'revision' in the registry") from None
    except errors.RepositoryNotFoundError:
        raise FetchError(f"{what} does not exist or is private: check its name, or set HF_TOKEN") from None
    except errors.HfHubHTTPError as error:
        raise FetchError(f"{what}: the hub answered '{' '.join(str(error).split())[:200]}': try again later") from None
    except OSError as error:
        raise FetchError(
            f"{what}: cannot use the Hugging Face cache ({error.strerror or error}): set HF_HOME"
        ) from None
