"""Names that become paths, and files that other files name: nothing leads out of its folder."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ramp.assets.fetched_files import asset_path
from ramp.assets.registry import RegistryError
from ramp.core.errors import RampError
from ramp.core.safe_path import below
from ramp.models.folder import CheckpointReader
from tests.local_sources import one, write_registry
from tests.refusals import refused
from tests.sealed import write_sealed

OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "", ".", "..", "a//b", "a\\b", "a\nb", "a\0b"]
PART = {"package": "p", "version": "1.0", "sha256": "0" * 64, "member": "m.txt"}
ROLES = {"format": "lines", "prefix": "p", "roles": {"train": 1.0}}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_file_that_another_names_lies_below_its_folder(tmp_path: Path, name: str) -> None:
    refused(RampError, {"list.json names the file": partial(below, tmp_path, name, "list.json")})


def test_a_file_below_a_folder_may_be_a_link_to_elsewhere(tmp_path: Path) -> None:
    assert below(tmp_path, "a/b.bin", "x") == tmp_path / "a" / "b.bin"
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert below(tmp_path, "link", "x") == tmp_path / "link"


def wheel(**change: Any) -> dict[str, Any]:
    return {"kind": "wheel", "parts": [PART | change.pop("part", {})], **change}


def text(**change: Any) -> dict[str, Any]:
    return {**one(wheel(), text=ROLES | change), "type": "text"}


@pytest.mark.parametrize(
    ("where", "asset"),
    [
        ("filename", one(wheel(filename="../../x"))),
        ("filename", one(wheel(filename="a/x"))),
        ("filename", one(wheel(filename="asset.json"))),
        ("member", one(wheel(part={"member": "../x"}))),
        ("package", one(wheel(part={"package": "a b"}))),
        ("version", one(wheel(part={"version": "1;x"}))),
        ("files", one({"kind": "hub", "repo": "a/b", "files": ["../*"]})),
        ("repo", one({"kind": "hub", "repo": "../b", "files": ["a"]})),
        ("preset", one({"kind": "trained", "preset": "$(touch x)", "steps": 1})),
        ("roles", text(roles={"../role": 1.0})),
        ("roles", text(roles={"train": float("nan")})),
        ("prefix", text(prefix="../p")),
        ("tasks", {**one(wheel(), tasks={"../t": {"format": "arrow", "member": "m"}}), "type": "tasks"}),
        ("tasks", {**one(wheel(), tasks={"t": {"format": "arrow", "member": "/m"}}), "type": "tasks"}),
    ],
)
def test_the_registry_takes_no_name_that_leads_out(tmp_path: Path, where: str, asset: dict[str, Any]) -> None:
    with pytest.raises(RegistryError, match=rf"assets\.a\..*{where}"):
        write_registry(tmp_path, {"a": asset})


def test_an_asset_has_no_name_of_a_role(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="'train' has the name of a role"):
        write_registry(tmp_path, {"train": text()})


@pytest.mark.parametrize("shard", ["../other/x.safetensors", "/x.safetensors", ".."])
def test_an_index_names_shards_in_its_folder_alone(tmp_path: Path, shard: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    refused(RampError, {"index.json names the file": partial(CheckpointReader, tmp_path)})


def test_the_record_of_an_asset_names_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "x").write_text("outside")
    write_sealed(tmp_path / "a" / "asset.json", {"kind": "path", "path": "../x", "sha256": "0"})
    refused(RampError, {"asset.json names the file": partial(asset_path, tmp_path, "a")})
