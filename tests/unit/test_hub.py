"""Assets from the Hugging Face hub: pinned, checked, and every failure as one sentence (the hub is not reached)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from ramp.assets.checksum_lock import Lock
from ramp.assets.fetched_files import tree_sha256
from ramp.assets.registry import Registry
from ramp.core.errors import RampError
from tests.local_sources import REPO, fetched, one, write_registry
from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("offline_pip")


COMMIT = "c" * 40


def hub_registry(tmp_path: Path, files: list[str], **more: Any) -> Registry:
    return write_registry(tmp_path, {"far": one({"kind": "hub", "repo": "some/model", "files": files, **more})})


def fake_hub(monkeypatch: pytest.MonkeyPatch, folder: Path, size: int = 10) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def snapshot_download(dry_run: bool = False, **wanted: Any) -> Any:
        calls.append(wanted)
        return [SimpleNamespace(file_size=size, will_download=True)] if dry_run else str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_hub_commit_is_resolved_once_then_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "data.parquet").write_bytes(b"rows")
    calls = fake_hub(monkeypatch, folder)
    registry = hub_registry(tmp_path, ["data.parquet"])
    record = fetched(registry, "far", tmp_path)
    assert record["revision"] == COMMIT
    assert (tmp_path / "R" / "far" / "data.parquet").read_bytes() == b"rows"
    fetched(registry, "far", tmp_path)
    assert [call["revision"] for call in calls] == [None, None, COMMIT, COMMIT]
    (folder / "data.parquet").write_bytes(b"other rows")
    with pytest.raises(RampError, match="sha256 of asset 'far'"):
        fetched(registry, "far", tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("GatedRepoError", "accept its licence at https://huggingface.co/some/model"),
        ("RepositoryNotFoundError", "private"),
        ("RevisionNotFoundError", "commit"),
        ("HfHubHTTPError", "boom"),
        ("LocalEntryNotFoundError", "cannot be reached"),
        ("OfflineModeIsEnabled", "offline mode"),
    ],
)
@pytest.mark.parametrize("behind_a_dry_run", [False, True])
def test_hub_failures_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str, behind_a_dry_run: bool
) -> None:
    """The hub's client hides why a dry run failed behind an error of its own."""
    kind = getattr(huggingface_hub.errors, name)
    error = kind.__new__(kind)
    error.args = ("boom",)

    def snapshot_download(**_: Any) -> None:
        if behind_a_dry_run:
            raise huggingface_hub.errors.DryRunError("cannot be performed") from error
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    registry = hub_registry(tmp_path, ["*.safetensors"], revision=COMMIT)
    refused(RampError, {words: lambda: fetched(registry, "far", tmp_path)})


def test_hub_in_offline_mode_for_real(tmp_path: Path) -> None:
    """No stand-in: the installed client, in offline mode with an empty cache, in a process of its own."""
    write_registry(tmp_path, {"far": one({"kind": "hub", "repo": "some/model", "files": ["*.safetensors"]})})
    command = [sys.executable, "-m", "ramp.assets.fetch", "--asset", "far", "--out", str(tmp_path / "R" / "far")]
    done = subprocess.run(
        [*command, "--registry", str(tmp_path / "config" / "assets.yaml")],
        cwd=REPO,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
    )
    assert done.returncode == 2
    assert "model some/model is not in the cache and the hub cannot be reached" in done.stderr.splitlines()[-1]


def test_package_index_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    part = {"package": "no-such-thing", "version": "1.0", "sha256": "0" * 64, "member": "a.bin"}
    registry = write_registry(tmp_path, {"thing": one({"kind": "wheel", "parts": [part]})})
    with pytest.raises(RampError, match="index"):
        fetched(registry, "thing", tmp_path)


def test_offline_snapshot_counts_only_when_its_checksum_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted first download looks like a small snapshot: without a lock it must not be taken."""
    folder = tmp_path / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "a.safetensors").write_bytes(b"half")

    def snapshot_download(local_files_only: bool = False, **_: Any) -> str:
        if not local_files_only:
            raise ConnectionError("no route")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    registry = hub_registry(tmp_path, ["*.safetensors"])
    with pytest.raises(RampError, match="cannot be reached"):
        fetched(registry, "far", tmp_path)
    lock = Lock(registry)
    lock.settle("far", "some/model", "sha256", "resolve", tree_sha256(folder))
    assert fetched(registry, "far", tmp_path)["path"] == str(folder)


def test_hub_asks_for_room_before_it_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, tmp_path / "never", size=1 << 60)
    registry = hub_registry(tmp_path, ["*.safetensors"])
    with pytest.raises(RampError, match="GB"):
        fetched(registry, "far", tmp_path)
