"""Refusals of the Hugging Face hub to this account, each as one sentence that says what to do."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ramp.assets.registry import RESOLVE, HubSource


def unreachable() -> tuple[type[Exception], ...]:
    """Return the errors of a client that got no answer: no network, a lost connection, offline mode."""
    from huggingface_hub import errors

    return errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError


def reason(error: Exception, source: HubSource) -> str:
    """Return what an error of the hub's client means for ``source``, beginning with a verb: "is gated: ..."."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error  # the client wraps what went wrong
    page = f"https://huggingface.co/{source.repo}"
    if isinstance(error, errors.GatedRepoError):
        if error.response.status_code == 401:
            return f"is gated: accept its licence at {page} and set HF_TOKEN to a token of that account"
        return f"is gated and the account of this HF_TOKEN has no access: ask for it at {page}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no commit {source.revision}: correct 'revision' in the registry or in its lock file"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "does not exist or is private: correct 'repo' in the registry, or set HF_TOKEN"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status == 401:
            return "cannot be asked for with this HF_TOKEN, which the hub does not know: correct it"
        return f"cannot be had now, the hub answered {status}: try again later"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "is not in the cache and offline mode is on: unset HF_HUB_OFFLINE, or fetch it beforehand"
    return f"cannot be reached ({type(error).__name__}): connect to the hub and run again, or fetch it beforehand"


def refusal(source: HubSource, known: bool) -> str | None:
    """Ask the hub whether this account may read a repository at its commit; return why not, or None.

    Where the hub cannot be reached, cached files whose checksum is ``known`` do.
    """
    from huggingface_hub import HfApi, errors

    api = HfApi()
    try:
        api.auth_check(source.repo, repo_type=source.repo_type)
        if source.revision != RESOLVE:
            api.repo_info(source.repo, repo_type=source.repo_type, revision=source.revision, expand="sha")
    except unreachable() as error:
        if known and not isinstance(error, errors.HfHubHTTPError):
            with suppress(errors.LocalEntryNotFoundError):
                cached_snapshot(source)
                return None
        return f"{source.repo} {reason(error, source)}"
    return None


def cached_snapshot(source: HubSource) -> Path:
    """Return the folder of a commit in the Hugging Face cache, without a network, or raise the client's error."""
    import huggingface_hub

    return Path(
        huggingface_hub.snapshot_download(
            source.repo,
            repo_type=source.repo_type,
            revision=None if source.revision == RESOLVE else source.revision,
            allow_patterns=list(source.files),
            local_files_only=True,
        )
    )
