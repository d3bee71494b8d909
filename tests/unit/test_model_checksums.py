"""A model's files are those that were made: compared with ``asset.json`` before they are used."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from ramp.core import tensors
from ramp.core.atomic_files import sha256_file
from ramp.core.errors import RampError
from ramp.models.architecture import ModelError
from ramp.models.asset_file import SINGLE, file_checksums
from ramp.models.folder import ModelFolder
from tests.refusals import refused
from tests.sealed import write_sealed
from tests.tiny_models import altered


@pytest.fixture
def model(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    folder = altered(tiny_llama_dir, tmp_path / "m")
    write_sealed(folder / "asset.json", {"kind": "hub", "files_sha256": file_checksums(folder, [folder / SINGLE])})
    tensors._compared.clear()
    return folder


def flip(path: Path) -> None:
    """Turn one bit of the last weight over."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()  # another inode: what was compared once is not compared again
    path.write_bytes(data)


def read(folder: Path) -> object:
    reader = ModelFolder(folder).reader
    return [reader.get(name) for name in reader.names()]


def test_a_bit_of_a_weight_is_seen_before_it_is_used(model: Path) -> None:
    read(model)
    flip(model / SINGLE)
    ModelFolder(model).check()  # headers alone: a job that reads sizes does not wait for a checksum
    ways = (lambda: read(model), lambda: ModelFolder(model).load_float())
    for way in ways:
        refused(ModelError, {"is damaged": way})


def test_the_weights_of_a_model_of_an_earlier_version_are_compared_too(model: Path) -> None:
    write_sealed(model / "asset.json", {"kind": "trained", "sha256": sha256_file(model / SINGLE)})
    read(model)
    flip(model / SINGLE)
    refused(ModelError, {"make the model again": lambda: read(model)})
    write_sealed(model / "asset.json", {"kind": "wheel", "sha256": "0" * 64})  # of a GGUF file, not of the weights
    read(model)
    (model / "asset.json").unlink()  # a user's own folder
    read(model)


def test_a_changed_configuration_or_tokenizer_is_seen(model: Path) -> None:
    whole = (model / "config.json").read_text()
    (model / "config.json").write_text(json.dumps(json.loads(whole) | {"rms_norm_eps": 0.5}))
    refused(RampError, {"config.json is damaged": lambda: ModelFolder(model).config})
    (model / "config.json").write_text(whole)
    tokenizer = (model / "tokenizer_config.json").read_text()
    (model / "tokenizer_config.json").write_text(tokenizer + " ")
    refused(RampError, {"tokenizer_config.json is damaged": lambda: ModelFolder(model).tokenizer()})


def test_another_family_is_refused_before_anything_is_built_of_it(tmp_path: Path) -> None:
    for config, said in (
        ({"model_type": "llava", "text_config": {"model_type": "qwen2", "num_hidden_layers": 2}}, "'llava'"),
        ({"model_type": "llama", "text_config": {"num_hidden_layers": 10**8}}, "num_hidden_layers"),
        ({"model_type": ["x"]}, "of a family that is not known here"),
        ({}, "model_type is missing"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        refused(ModelError, {said: lambda: ModelFolder(tmp_path).config})


@pytest.fixture
def large(model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, whose files count as large; skipped where the file system keeps no extended attributes."""
    monkeypatch.setattr(tensors, "REMEMBERED_BYTES", 0)
    try:
        os.setxattr(model / SINGLE, "user.ramp.test", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    return model


def hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether a new process that reads the weights hashes them."""
    seen: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "sha256_file", lambda path: seen.append(path) or sha256_file(path))
        tensors._compared.clear()
        read(folder)
    return bool(seen)


def test_a_large_file_is_hashed_by_its_first_reader_alone(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashed(large, monkeypatch)
    assert not hashed(large, monkeypatch)
    os.utime(large / SINGLE)  # changed, as far as anybody can tell
    assert hashed(large, monkeypatch)


def test_a_changed_large_file_is_refused_though_its_older_content_was_right(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hashed(large, monkeypatch)
    with (large / SINGLE).open("r+b") as stream:  # in place: the attribute stays with the file
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))
    tensors._compared.clear()
    refused(ModelError, {"damaged": lambda: read(large)})


def test_a_file_system_without_attributes_hashes_each_time(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> bytes:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    monkeypatch.setattr(os, "getxattr", unsupported)
    assert hashed(large, monkeypatch)
    assert hashed(large, monkeypatch)
