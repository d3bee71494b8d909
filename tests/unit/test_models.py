"""A checkpoint folder as one object, models without weights, and families as rows of a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHAPE, save_random_model, save_tokenizer
from safetensors.torch import load_file, save_file

from ramp.calibration.folding import folded_float_model
from ramp.core.errors import RampError
from ramp.models.architecture import ARCHITECTURES, Architecture, ModelError
from ramp.models.empty_model import empty_model, filled_model
from ramp.models.folder import ModelFolder
from tests.refusals import refused
from tests.tiny_models import altered, windows_of


@pytest.mark.parametrize(("model", "outer"), [("tiny_llama_dir", 3), ("tiny_qwen2_dir", 2)])
def test_a_folder_is_its_checkpoint(model: str, outer: int, request: pytest.FixtureRequest) -> None:
    """Blocks and outer weights together are every parameter; a tied head is none."""
    folder = ModelFolder(request.getfixturevalue(model))
    assert (folder.tied, len(folder.outer)) == (outer == 2, outer)
    inside = {name for name in folder.reader.names() if name.startswith(f"{folder.architecture.blocks}.")}
    assert inside | set(folder.outer) == set(folder.reader.names())
    assert {f"{linear.name}.weight" for linear in folder.linears} <= inside
    assert {f"{x.name}.bias" for x in folder.linears if x.has_bias} == {
        name for name in inside if name.endswith("bias")
    }
    folder.check()
    assert folder.tokenizer()("a b")["input_ids"]


def test_shards_are_read_as_one_checkpoint(tiny_llama_dir: Path, tmp_path: Path) -> None:
    folder = ModelFolder(altered(tiny_llama_dir, tmp_path))
    whole = load_file(tmp_path / "model.safetensors")
    names = sorted(whole)
    shards = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    (tmp_path / "model.safetensors").unlink()
    for file, part in shards.items():
        save_file({name: whole[name] for name in part}, tmp_path / file, metadata={"format": "pt"})
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert folder.reader.names() == names
    assert all(torch.equal(folder.reader.get(name), whole[name]) for name in names)
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(ModelError, match=r"two\.safetensors"):
        _ = ModelFolder(tmp_path).reader


def test_an_index_of_the_one_file_is_no_second_checkpoint(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """mlx-lm writes it beside a small model."""
    folder = ModelFolder(altered(tiny_llama_dir, tmp_path))
    index = {"weight_map": dict.fromkeys(load_file(tmp_path / "model.safetensors"), "model.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [file.name for file in folder.reader.files] == ["model.safetensors"]


def test_faults_of_a_folder(tiny_llama_dir: Path, tmp_path: Path) -> None:
    shorter = ModelFolder(altered(tiny_llama_dir, tmp_path / "shorter", intermediate_size=96))
    unknown = ModelFolder(altered(tiny_llama_dir, tmp_path / "unknown", model_type="gpt2"))
    calls: dict[str, Any] = {
        "config.json": lambda: ModelFolder(tmp_path).config,
        "gate_proj.weight is [128, 64]": shorter.load_float,
        "'nothing'": lambda: ModelFolder(tiny_llama_dir).reader.get("nothing"),
        "'gpt2'": lambda: unknown.linears,
    }
    refused(ModelError, calls)
    (unknown.path / "model.safetensors").write_bytes(b"nothing")
    refused(RampError, {"no safetensors file": lambda: ModelFolder(unknown.path).reader})


@pytest.mark.parametrize("model", ["tiny_llama_dir", "tiny_qwen2_dir"])
def test_an_empty_model_lacks_parameters_and_nothing_else(model: str, request: pytest.FixtureRequest) -> None:
    folder = ModelFolder(request.getfixturevalue(model))
    made = empty_model(folder.config, torch.float32)
    assert all(parameter.is_meta for parameter in made.parameters())
    assert not any(buffer.is_meta for buffer in made.buffers())
    made = filled_model(folder.config, torch.float32, torch.device("cpu"), folder.reader.get)
    windows = windows_of(folder.path, 2, 24, seed=0)
    assert torch.equal(made(windows).logits, folder.load_float()(windows).logits)


def test_a_family_with_llamas_topology_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helium: Llama's modules under another name, with a rotary embedding of its own."""
    from transformers import HeliumConfig

    config = HeliumConfig(vocab_size=save_tokenizer(tmp_path), tie_word_embeddings=False, head_dim=16, **SHAPE)
    folder = ModelFolder(save_random_model(tmp_path, config))
    with pytest.raises(ModelError, match="'helium'"):
        _ = folder.linears
    monkeypatch.setitem(ARCHITECTURES, "helium", Architecture(attention_bias_key="attention_bias"))
    fold = {"model.layers.1.down_in": torch.linspace(0.5, 2, 128), "model.layers.0.mlp_in": torch.linspace(0.5, 2, 64)}
    windows = windows_of(tmp_path, 2, 24, seed=0)
    expected, found = folder.load_float()(windows).logits, folded_float_model(tmp_path, fold)(windows).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
