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
from typing import Any

import pytest
import yaml

from tests.hub import LARGE, PIECE, Hub, sha256
from tests.local_sources import REPO, one, write_registry

pytestmark = pytest.mark.usefixtures("offline_pip")

REPOSITORY = "some/model"
SHARD = "model-00001-of-00002.safetensors"
CHUNK = 10 << 20  # bytes that the client writes at once: what is resumed is a multiple of it
FILES = ["*.safetensors", "config.json"]


@dataclass
class Fetching:
    """A hub with one model, and the stage that fetches it into a cache of this test."""

    hub: Hub
    folder: Path  # of the registry, the results and the cache
    source: Path  # the repository's files

    def registry(self, **source: Any) -> None:
        write_registry(self.folder, {"far": one({"kind": "hub", "repo": REPOSITORY, "files": FILES, **source})})

    def start(self, token: str = "", **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ramp.assets.fetch", "--asset", "far", "--out", str(self.folder / "R" / "far")]
        merged = {**os.environ, **self.hub.environment(self.folder / "hf", token), **environment}
        return subprocess.Popen(
            [*command, "--registry", str(self.folder / "config" / "assets.yaml")],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={name: value for name, value in merged.items() if value},
        )

    def run(self, token: str = "", **environment: str) -> tuple[int, str]:
        """Exit status and last line."""
        process = self.start(token, **environment)
        said, _ = process.communicate(timeout=60)
        assert "Traceback" not in said, said
        return process.returncode, said.splitlines()[-1]

    def succeeds(self, **environment: str) -> None:
        status, said = self.run(**environment)
        assert status == 0, said
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
        """Where the first shard lies while it is being downloaded."""
        blobs = self.folder / "hf" / "hub" / "models--some--model" / "blobs"
        return blobs / f"{sha256(self.source / SHARD)}.incomplete"


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Fetching]:
    source = tmp_path / "source"
    source.mkdir()
    for number, name in enumerate([SHARD, "model-00002-of-00002.safetensors", "pytorch_model.bin", "config.json"]):
        (source / name).write_bytes(bytes([number, 7, 42, 3]) * (6_000_000 if name == SHARD else 5_000))
    with Hub() as hub:
        hub.add(REPOSITORY, source)
        found = Fetching(hub, tmp_path, source)
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
    far.hub.faults.status["/"] = 503
    far.succeeds(HF_HUB_OFFLINE="1")
    far.hub.faults.status.clear()
    (far.source / "config.json").write_bytes(b"another commit")
    far.hub.add(REPOSITORY, far.source)
    status, said = far.run(HF_HOME=str(far.folder / "empty"))
    assert (status, far.locked) == (2, first)
    assert f"has no commit {first['revision']}" in said


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
    status, said = far.run()
    assert status == 2
    assert f"{SHARD} of {REPOSITORY} came 2 times with another checksum" in said
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
    """What a killed download left may be damaged, or longer than the file."""
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
    status, said = far.run(token)
    assert status == 2
    assert words in said
    assert far.left_over() == []
    assert far.run("hf_good")[0] == 0


def test_faults_of_the_address_and_of_the_hub_are_one_sentence(far: Fetching) -> None:
    def last(words: str, **source: Any) -> None:
        far.registry(**source)
        status, said = far.run()
        assert (status, words in said) == (2, True), said

    last("has no commit " + "c" * 40, revision="c" * 40)
    last("does not exist or is private", repo="some/nothing")
    last("no file that matches *.gguf", files=["*.gguf"])
    far.hub.faults.status["/api/"] = 503
    last("the hub answered 503: try again later")


def test_no_network_and_offline_mode(far: Fetching) -> None:
    status, said = far.run(HF_ENDPOINT="http://127.0.0.1:9")  # the discard port: nobody listens
    assert status == 2
    assert "cannot be reached (ConnectError)" in said
    status, said = far.run(HF_HUB_OFFLINE="1")
    assert status == 2
    assert "offline mode is on" in said


def test_half_a_first_download_is_not_taken_without_a_network(far: Fetching) -> None:
    """An interrupted first download looks like a small snapshot: only one whose checksum is locked is taken."""
    far.registry(files=["config.json", "model-00002-of-00002.safetensors"])
    assert far.run()[0] == 0
    far.registry()
    (far.folder / "config" / "assets.lock.yaml").unlink()
    status, said = far.run(HF_HUB_OFFLINE="1")
    assert status == 2
    assert "offline mode is on" in said


def test_a_data_set_of_one_file_is_copied(far: Fetching) -> None:
    (far.source / "test.parquet").write_bytes(b"rows")
    assert ".parquet" in LARGE
    far.hub.add(REPOSITORY, far.source, kind="dataset")
    far.registry(repo_type="dataset", files=["test.parquet"])
    assert far.run()[0] == 0
    assert (far.folder / "R" / "far" / "test.parquet").read_bytes() == b"rows"


def test_room_is_asked_for_before_a_download(far: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import huggingface_hub.constants as constants

    from ramp.assets.fetched_files import FetchError
    from ramp.assets.hub_download import RepositoryCache, download_snapshot
    from ramp.assets.registry import HubSource

    large = SimpleNamespace(size=1 << 60, lfs=SimpleNamespace(sha256="0" * 64), path=SHARD)
    monkeypatch.setattr(RepositoryCache, "listed", lambda self, api: [large])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(far.folder / "hf"))
    with pytest.raises(FetchError, match="GB"):
        download_snapshot("far", HubSource(kind="hub", repo=REPOSITORY, revision="c" * 40, files=("*",)))


def test_package_index_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ramp.core.errors import RampError
    from tests.local_sources import fetched

    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    part = {"package": "no-such-thing", "version": "1.0", "sha256": "0" * 64, "member": "a.bin"}
    registry = write_registry(tmp_path, {"thing": one({"kind": "wheel", "parts": [part]})})
    with pytest.raises(RampError, match="index"):
        fetched(registry, "thing", tmp_path)
