"""Assets from the model hub, by the stage that fetches them, from a stand-in that gates, cuts, corrupts and fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants as constants
import pytest
import yaml

from ramp.assets.fetch import main as fetch
from ramp.assets.hub_download import RepositoryCache
from ramp.core.errors import RampError
from tests.hub import PIECE, Hub, sha256
from tests.local_sources import REPO, fetched, one, write_registry

pytestmark = pytest.mark.usefixtures("offline_pip")

REPOSITORY = "some/model"
SHARD = "model-00001-of-00002.safetensors"
NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens
CHUNK = 10 << 20  # bytes that the client writes at once: what is resumed is a multiple of it
FILES = ["*.safetensors", "config.json"]


@dataclass
class Fetching:
    """A hub with one model, and the stage that fetches it into a cache of this test."""

    hub: Hub
    folder: Path  # of the registry, the results and the cache
    source: Path  # the repository's files
    patch: pytest.MonkeyPatch

    def registry(self, **source: Any) -> None:
        write_registry(self.folder, {"far": one({"kind": "hub", "repo": REPOSITORY, "files": FILES, **source})})

    def command(self) -> list[str]:
        out, registry = self.folder / "R" / "far", self.folder / "config" / "assets.yaml"
        return ["--asset", "far", "--out", str(out), "--registry", str(registry)]

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """The stage in a process of its own."""
        merged = {**os.environ, **self.hub.environment(self.folder / "hf"), **environment}
        return subprocess.Popen(
            [sys.executable, "-m", "ramp.assets.fetch", *self.command()],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={name: value for name, value in merged.items() if value},
        )

    def refusal(self, token: str = "", *, offline: bool = False, url: str = "", cache: str = "hf") -> str:
        """The sentence with which the stage stops, in this process; empty where it does not."""
        url = url or self.hub.url
        self.patch.setenv("HF_TOKEN", token) if token else self.patch.delenv("HF_TOKEN", raising=False)
        self.patch.setattr(constants, "ENDPOINT", url)
        self.patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        self.patch.setattr(constants, "HF_HUB_CACHE", str(self.folder / cache / "hub"))
        self.patch.setattr(constants, "HF_HUB_OFFLINE", offline)
        try:
            fetch(self.command())
            said = ""
        except RampError as error:
            said = str(error)
        assert "\n" not in said
        return said

    def succeeds(self, **how: Any) -> None:
        assert self.refusal(**how) == ""
        snapshot = next((self.folder / "hf" / "hub").glob("models--*/snapshots/*"))
        for file in self.source.iterdir():
            if file.suffix != ".bin":
                assert (snapshot / file.name).read_bytes() == file.read_bytes()
        assert self.left_over() == []

    def left_over(self) -> list[Path]:
        return list((self.folder / "hf").rglob("*.incomplete"))

    @property
    def locked(self) -> dict[str, Any]:
        file = self.folder / "config" / "assets.lock.yaml"
        return yaml.safe_load(file.read_text())["far"][REPOSITORY] if file.exists() else {}

    def partial(self) -> Path:
        """Return where the first shard lies while it is being downloaded."""
        blobs = self.folder / "hf" / "hub" / "models--some--model" / "blobs"
        return blobs / f"{sha256(self.source / SHARD)}.incomplete"


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetching]:
    source = tmp_path / "source"
    source.mkdir()
    for number, name in enumerate([SHARD, "model-00002-of-00002.safetensors", "pytorch_model.bin", "config.json"]):
        (source / name).write_bytes(bytes([number, 7, 42, 3]) * (6_000_000 if name == SHARD else 5_000))
    with Hub() as hub:
        hub.add(REPOSITORY, source)
        found = Fetching(hub, tmp_path, source, monkeypatch)
        found.registry()
        yield found


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_commit_is_resolved_once_then_pinned_and_needs_no_network_any_more(far: Fetching) -> None:
    far.succeeds()
    first = far.locked
    assert first["revision"] == far.hub.repositories["models", REPOSITORY].commit
    assert far.hub.asked("pytorch_model.bin") == []
    (far.folder / "R" / "far" / "asset.json").unlink()
    far.succeeds(offline=True)
    with far.patch.context() as patch:
        patch.setattr(time, "sleep", lambda _: None)  # the client asks five times more
        far.succeeds(url=NOBODY)
    (far.source / "config.json").write_bytes(b"another commit")
    far.hub.add(REPOSITORY, far.source)
    assert f"has no commit {first['revision']}" in far.refusal(cache="empty")
    assert far.locked == first


def test_a_lost_connection_is_taken_up_where_it_broke(far: Fetching) -> None:
    far.hub.faults.cut[SHARD] = CHUNK + PIECE
    far.succeeds()
    assert [one.range for one in far.hub.asked(SHARD) if one.path.startswith("/storage")] == ["", f"bytes={CHUNK}-"]


def test_a_killed_download_goes_on_where_it_stopped(far: Fetching) -> None:
    far.hub.faults.delay_s[SHARD] = 0.1
    process = far.start()
    wait_for(lambda: far.partial().is_file() and far.partial().stat().st_size >= CHUNK)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = far.partial().stat().st_size
    assert there < (far.source / SHARD).stat().st_size
    by_the_client = far.partial().with_name(f"{far.partial().stem}.0123abcd.incomplete")
    by_the_client.write_bytes(b"left by a killed download of the client itself")
    far.hub.faults.delay_s.clear()
    far.succeeds()
    assert far.hub.asked(SHARD)[-1].range == f"bytes={there}-"


def test_a_corrupted_first_download_is_fetched_again_and_never_locked(far: Fetching) -> None:
    """One byte is wrong once: mended. Twice: refused, nothing locked. Then the true bytes are accepted."""
    far.hub.faults.corrupt[SHARD] = 2
    assert f"{SHARD} of {REPOSITORY} came 2 times with another checksum" in far.refusal()
    assert far.locked == {}
    far.hub.faults.corrupt = {SHARD: 1, "config.json": 1}
    far.succeeds()
    assert set(far.locked) == {"revision", "sha256"}


def test_a_cached_file_that_rotted_is_fetched_again(far: Fetching) -> None:
    far.succeeds()
    blob = next((far.folder / "hf").rglob(SHARD)).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    far.succeeds()


def test_a_wrong_beginning_does_not_survive(far: Fetching) -> None:
    """The part that a killed download left may be damaged, or longer than the file."""
    far.partial().parent.mkdir(parents=True)
    for left in (b"not what the file begins with", b"x" * 30_000_000):
        far.partial().write_bytes(left)
        far.succeeds()
        far.partial().with_suffix("").unlink()


@pytest.mark.parametrize(
    ("allowed", "token", "words"),
    [
        (["hf_good"], "", "is gated: accept its licence at https://huggingface.co/some/model and set HF_TOKEN"),
        (["hf_good"], "hf_other", "the account of this HF_TOKEN has no access"),
        (["hf_good"], "hf_mistyped", "which the hub does not know"),
    ],
)
def test_gated_models_say_what_to_do(far: Fetching, allowed: list[str], token: str, words: str) -> None:
    far.hub.add(REPOSITORY, far.source, tokens=allowed)
    far.hub.add("some/other", far.source, tokens=["hf_other"])
    assert words in far.refusal(token)
    assert far.left_over() == []
    far.succeeds(token="hf_good")


def test_faults_of_the_address_and_of_the_hub_are_one_sentence(far: Fetching) -> None:
    def refused(words: str, **source: Any) -> None:
        far.registry(**source)
        assert words in far.refusal()

    refused("has no commit " + "c" * 40, revision="c" * 40)
    refused("does not exist or is private", repo="some/nothing")
    refused("no file that matches *.gguf", files=["*.gguf"])
    far.hub.faults.status["/api/"] = 503
    refused("the hub answered 503: try again later")


def test_no_network_and_offline_mode(far: Fetching) -> None:
    """Offline mode also as users set it, with the stage in a process of its own."""
    assert "cannot be reached (ConnectError)" in far.refusal(url=NOBODY)
    assert "offline mode is on" in far.refusal(offline=True)
    process = far.start(HF_HUB_OFFLINE="1")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "offline mode is on" in said.splitlines()[-1]


def test_half_a_first_download_is_not_taken_without_a_network(far: Fetching) -> None:
    """An interrupted first download looks like a small snapshot: only one whose checksum is locked is taken."""
    far.registry(files=["config.json", "model-00002-of-00002.safetensors"])
    assert far.refusal() == ""
    far.registry()
    (far.folder / "config" / "assets.lock.yaml").unlink()
    assert "offline mode is on" in far.refusal(offline=True)


def test_a_data_set_of_one_file_is_copied(far: Fetching) -> None:
    (far.source / "test.parquet").write_bytes(b"rows")
    far.hub.add(REPOSITORY, far.source, kind="dataset")
    far.registry(repo_type="dataset", files=["test.parquet"])
    assert far.refusal() == ""
    assert (far.folder / "R" / "far" / "test.parquet").read_bytes() == b"rows"


def test_one_file_is_asked_for_by_name_and_patterns_by_the_tree(far: Fetching) -> None:
    """A data set may have tens of thousands of files, and its tree that many lines."""

    def asked(what: str) -> bool:
        return any(f"/{what}/" in one.path for one in far.hub.requests)

    far.registry(files=[SHARD, "config.json"])
    assert far.refusal() == ""
    assert asked("paths-info")
    assert not asked("tree")
    far.registry(files=["no-such-file.json"])
    (far.folder / "config" / "assets.lock.yaml").unlink()
    assert "no file that matches no-such-file.json" in far.refusal()
    far.registry()
    far.succeeds()
    assert asked("tree")


def test_room_is_asked_for_before_a_download(far: Fetching) -> None:
    large = SimpleNamespace(size=1 << 60, lfs=SimpleNamespace(sha256="0" * 64), path=SHARD)
    far.patch.setattr(RepositoryCache, "listed", lambda self, api: [large])
    assert "GB are free" in far.refusal()


def test_package_index_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOBODY}/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    part = {"package": "no-such-thing", "version": "1.0", "sha256": "0" * 64, "member": "a.bin"}
    registry = write_registry(tmp_path, {"thing": one({"kind": "wheel", "parts": [part]})})
    with pytest.raises(RampError, match="index"):
        fetched(registry, "thing", tmp_path)
