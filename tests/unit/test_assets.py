"""Assets from wheels and paths, with real files and real pip (no network), every failure as one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ramp.assets.asset import fetch_asset
from ramp.assets.checkpoint import make_model
from ramp.assets.fetched_files import asset_path, tree_sha256
from ramp.assets.registry import Registry
from ramp.core.errors import RampError
from tests.local_sources import fetched, make_wheel, one, sha256, wheel_source, write_registry
from tests.refusals import refused
from tests.sealed import owner_of_a_killed_job

pytestmark = pytest.mark.usefixtures("offline_pip")


def thing(tmp_path: Path, wheels: Path) -> Registry:
    """A registry with one asset, a member of a wheel that holds a.bin."""
    wheel = make_wheel(wheels, "thing", {"a.bin": b"data"})
    return write_registry(tmp_path, {"thing": one(wheel_source(wheel, "thing", "a.bin"))})


def test_wheel_parts_are_joined_and_used_offline_afterwards(tmp_path: Path, offline_pip: Path) -> None:
    halves = [b"first half, ", b"second half"]
    wheels = [make_wheel(offline_pip, f"part-{i}", {"data/half.bin": half}) for i, half in enumerate(halves)]
    parts = [
        {"package": f"part-{i}", "version": "1.0", "sha256": sha256(wheel.read_bytes()), "member": "data/half.bin"}
        for i, wheel in enumerate(wheels)
    ]
    source = {"kind": "wheel", "filename": "whole.bin", "sha256": sha256(b"".join(halves)), "parts": parts}
    registry = write_registry(tmp_path, {"whole": one(source)})
    record = fetched(registry, "whole", tmp_path)
    assert (tmp_path / "R" / "whole" / "whole.bin").read_bytes() == b"first half, second half"
    assert record["sha256"] == sha256(b"".join(halves))
    assert record["bytes"] == 23
    for wheel in wheels:
        wheel.unlink()  # nothing to download from any more
    assert fetch_asset(registry, "whole", tmp_path / "R2" / "whole") == record
    assert asset_path(tmp_path / "R2", "whole").read_bytes() == b"first half, second half"


def test_wheel_with_another_checksum_is_refused(tmp_path: Path, offline_pip: Path) -> None:
    source = wheel_source(make_wheel(offline_pip, "thing", {"a.bin": b"data"}), "thing", "a.bin")
    source["parts"][0]["sha256"] = "0" * 64
    registry = write_registry(tmp_path, {"thing": one(source)})
    with pytest.raises(RampError, match="another sha256"):
        fetched(registry, "thing", tmp_path)
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert not (tmp_path / "R" / "thing" / "asset.json").exists()


@pytest.mark.parametrize(
    ("member", "joined", "words"),
    [("a.bin", "1" * 64, "sha256 of asset 'thing'"), ("b.bin", "resolve", "b.bin"), ("damaged.bin", "resolve", "CRC")],
)
def test_a_faulty_member_is_refused_and_leaves_nothing(
    tmp_path: Path, offline_pip: Path, member: str, joined: str, words: str
) -> None:
    """Another checksum, a member that is not there, and one whose bytes fail the CRC that the wheel keeps of them."""
    wheel = make_wheel(offline_pip, "thing", {"a.bin": b"data", "damaged.bin": b"payload" * 100})
    wheel.write_bytes(wheel.read_bytes().replace(b"payload", b"PAYLOAD", 1))
    registry = write_registry(tmp_path, {"thing": one(wheel_source(wheel, "thing", member, joined))})
    refused(RampError, {words: lambda: fetched(registry, "thing", tmp_path)})
    assert list((tmp_path / "R" / "thing").iterdir()) == []


def test_damaged_wheel_in_the_cache_is_fetched_again(tmp_path: Path, offline_pip: Path) -> None:
    registry = thing(tmp_path, offline_pip)
    first = fetched(registry, "thing", tmp_path)
    cached = next((tmp_path / "cache").rglob("*.whl"))
    cached.write_bytes(cached.read_bytes()[:50])  # an interrupted copy
    assert fetched(registry, "thing", tmp_path) == first


def test_leavings_of_a_killed_job_are_neither_taken_nor_kept(tmp_path: Path, offline_pip: Path) -> None:
    registry = thing(tmp_path, offline_pip)
    half_download = tmp_path / "cache" / "wheels" / "thing==1.0" / "tmp123.partial"
    half_download.mkdir(parents=True)
    (half_download / "thing-1.0-py3-none-any.whl").write_bytes(b"half")
    half_file = tmp_path / "R" / "thing" / f".a.bin.{owner_of_a_killed_job()}.partial"
    half_file.parent.mkdir(parents=True)
    half_file.write_bytes(b"da")
    fetched(registry, "thing", tmp_path)
    assert asset_path(tmp_path / "R", "thing").read_bytes() == b"data"
    assert not half_download.exists()
    assert not half_file.exists()


def test_no_network(tmp_path: Path) -> None:
    part = {"package": "no-such-thing", "version": "1.0", "sha256": "0" * 64, "member": "a.bin"}
    registry = write_registry(tmp_path, {"thing": one({"kind": "wheel", "parts": [part]})})
    refused(RampError, {"network": lambda: fetched(registry, "thing", tmp_path)})


def test_unknown_checksum_is_taken_once_and_checked_from_then_on(tmp_path: Path, offline_pip: Path) -> None:
    wheel = make_wheel(offline_pip, "thing", {"a.bin": b"data"})
    source = wheel_source(wheel, "thing", "a.bin")
    source["parts"][0]["sha256"] = "resolve"
    registry = write_registry(tmp_path, {"thing": one(source)})
    fetched(registry, "thing", tmp_path)
    locked = yaml.safe_load((tmp_path / "config" / "assets.lock.yaml").read_text())
    assert locked == {"thing": {"thing==1.0": {"sha256": sha256(b"data"), "wheel_sha256": sha256(wheel.read_bytes())}}}
    next((tmp_path / "cache").rglob("*.whl")).unlink()
    make_wheel(offline_pip, "thing", {"a.bin": b"another"})
    with pytest.raises(RampError, match="sha256"):
        fetched(registry, "thing", tmp_path)


def test_path_is_relative_to_the_project_root_and_takes_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text.txt").write_text("hello")
    monkeypatch.setenv("MY_DATA", "data")
    registry = write_registry(tmp_path, {"t": one({"kind": "path", "path": "${MY_DATA}/text.txt"})})
    fetched(registry, "t", tmp_path)
    assert asset_path(tmp_path / "R", "t").read_text() == "hello"
    assert registry.is_local("t")
    (tmp_path / "R" / "t" / "text.txt").write_text("hullo")
    with pytest.raises(RampError, match="sha256"):
        asset_path(tmp_path / "R", "t")


def test_missing_file_names_every_source_tried(tmp_path: Path) -> None:
    sources = [{"kind": "path", "path": "nowhere.txt"}, {"kind": "path", "path": "$NOT_SET_AT_ALL/x"}]
    registry = write_registry(tmp_path, {"t": one({}) | {"sources": sources}})
    with pytest.raises(RampError, match=r"nowhere\.txt; .*NOT_SET_AT_ALL"):
        fetched(registry, "t", tmp_path)


def test_later_sources_are_tried_where_the_first_is_absent_but_not_where_it_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b")
    second = {"kind": "path", "path": "b.txt"}
    registry = write_registry(tmp_path, {"t": one({}) | {"sources": [{"kind": "path", "path": "a.txt"}, second]}})
    assert fetched(registry, "t", tmp_path)["source"] == "b.txt"
    (tmp_path / "a.txt").write_text("tampered")
    wrong = {"kind": "path", "path": "a.txt", "sha256": "2" * 64}
    registry = write_registry(tmp_path, {"t": one({}) | {"sources": [wrong, second]}})
    with pytest.raises(RampError, match="sha256 of asset 't'"):
        fetched(registry, "t", tmp_path)


def test_local_checkpoint_is_linked_and_measured(tmp_path: Path, tiny_llama_dir: Path) -> None:
    from ramp.models.architecture import list_linears
    from ramp.models.folder import CheckpointReader
    from tests.model_folders import read_config

    registry = write_registry(tmp_path, {"mine": one({"kind": "path", "path": str(tiny_llama_dir)})})
    fetched(registry, "mine", tmp_path)
    record = make_model(registry, "mine", tmp_path / "R", tmp_path / "models" / "mine")
    folder = tmp_path / "models" / "mine"
    assert record["released_bytes"] == (tiny_llama_dir / "model.safetensors").stat().st_size
    assert record["released_format"] == "float32"
    reader = CheckpointReader(folder)
    expected = sum(reader.get(f"{linear.name}.weight").nbytes for linear in list_linears(read_config(folder)))
    assert record["linears_released_bytes"] == expected


def test_tree_checksum_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = tree_sha256(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    second = tree_sha256(tmp_path / "a")
    (tmp_path / "a" / "y").write_text("2")
    assert len({first, second, tree_sha256(tmp_path / "a")}) == 3
