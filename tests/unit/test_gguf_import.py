"""A released GGUF file becomes a float checkpoint folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ramp.assets.checkpoint import import_gguf, make_model
from ramp.assets.tiny_family import PRESETS
from ramp.assets.train_tiny import build_model, train_tokenizer
from ramp.core.errors import RampError
from ramp.export.write import export
from ramp.gguf_format.configuration import rope_scaling
from ramp.gguf_format.names import GgufError
from ramp.models.architecture import list_linears
from ramp.models.folder import CheckpointReader
from ramp.models.save_folder import save_model, save_tokenizer
from ramp.models.token_windows import Document
from tests.gguf_inputs import allocation_of, statistics
from tests.local_sources import fetched, one, write_registry
from tests.model_folders import load_float, load_gguf_float, load_tokenizer, read_config
from tests.refusals import refused
from tests.sealed import read_json
from tests.tiny_models import altered, random_llama, windows_of

pytestmark = pytest.mark.usefixtures("offline_pip")


def test_gguf_becomes_a_float_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-layer Llama with grouped heads as Q8_0, whose tokenizer splits digits by its name in the file alone."""
    original, gguf, out = tmp_path / "original", tmp_path / "model.gguf", tmp_path / "models" / "tiny"
    sizes = {"layers": 1, "hidden": 64, "intermediate": 96, "head_dim": 16, "kv_heads": 2, "vocab": 260}
    model = build_model(replace(PRESETS["tiny-llama-s"], tied=False, **sizes), end_id=0, seed=0)
    model.config.rope_parameters["rope_theta"] = 50000.0
    original.mkdir()
    save_model(model, original)
    save_tokenizer(train_tokenizer([Document("d", "ab12 ab12 ab12 ab ab")], 260), original)
    monkeypatch.setattr("ramp.gguf_format.vocabulary.pre_tokenizer_name", lambda spec: "smollm")
    plan = export(original, gguf, allocation_of(original, (8,)), statistics(original, tmp_path / "c.safetensors"))

    registry = write_registry(tmp_path, {"tiny": one({"kind": "path", "path": gguf.name}, note="de-quantized")})
    fetched(registry, "tiny", tmp_path)
    record = make_model(registry, "tiny", tmp_path / "R", out)
    assert record["linears_released_bytes"] == sum(x.params // 32 * 34 for x in list_linears(read_config(original)))
    assert record["released_bytes"] == plan.sizes["bytes_file"]
    assert (record["released_format"], record["note"]) == ("Q8_0", "de-quantized")
    reader = CheckpointReader(out)
    for name, values in load_gguf_float(original, gguf).state_dict().items():
        np.testing.assert_array_equal(reader.get(name).numpy(), values.numpy(), err_msg=name)
    assert read_config(out).rope_parameters["rope_theta"] == 50000.0
    assert read_json(out / "config.json")["rope_theta"] == 50000.0  # for transformers 4
    assert "quantization_config" not in (out / "config.json").read_text()
    before, after = (load_tokenizer(folder) for folder in (original, out))
    assert before.convert_ids_to_tokens(before("ab12")["input_ids"]) == ["ab", "12"]
    assert after.convert_ids_to_tokens(after("ab12")["input_ids"]) == ["ab", "1", "2"]
    assert load_float(out).lm_head.weight.shape == (len(after), 64)


def test_damaged_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    registry = write_registry(tmp_path, {"bad": one({"kind": "path", "path": "model.gguf"})})
    fetched(registry, "bad", tmp_path)
    with pytest.raises(RampError, match=r"model\.gguf"):
        make_model(registry, "bad", tmp_path / "R", tmp_path / "models" / "bad")
    assert not (tmp_path / "models" / "bad").exists()


LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
WITH_BIASES = {"attention_bias": True, "mlp_bias": True}
READ: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped heads of their own size": {"head_dim": 32},
    "linear": {"rope_parameters": LINEAR},
    "yarn": {"rope_parameters": YARN},
    "attention biases": {"attention_bias": True},
    "all biases, yarn, tied": WITH_BIASES | {"rope_parameters": YARN, "tied": True},
}


@pytest.mark.parametrize("name", READ)
def test_an_exported_model_comes_back(name: str, tmp_path: Path) -> None:
    """Rotary scaling and biases, which transformers passes over in a file: the same weights, the same logits."""
    original, gguf, out = random_llama(tmp_path / "original", **READ[name]), tmp_path / "model.gguf", tmp_path / "out"
    save_tokenizer(train_tokenizer([Document("d", "ab ab ab")], 258), original)
    export(original, gguf)
    out.mkdir()
    import_gguf(gguf, out, "tiny")
    windows = windows_of(original, count=2, length=128, seed=0)  # beyond YaRN's original context
    expected, found = (load_float(folder)(windows).logits for folder in (original, out))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert {*CheckpointReader(out).names()} == {*CheckpointReader(original).names()}


class Told:
    """A GGUF file as its names and metadata alone."""

    path = Path("model.gguf")

    def __init__(self, metadata: dict[str, Any], *tensors: str) -> None:
        self._metadata = {"general.architecture": "llama"} | {f"llama.rope.{key}": metadata[key] for key in metadata}
        self._tensors = tensors

    def names(self) -> list[str]:
        return list(self._tensors)

    def metadata_keys(self) -> list[str]:
        return list(self._metadata)

    def metadata(self, key: str) -> Any:
        return self._metadata.get(key)


def test_rotary_embeddings_that_a_file_cannot_say(tiny_llama_dir: Path) -> None:
    config = read_config(tiny_llama_dir)  # 16 channels a head

    def told(*tensors: str, **metadata: Any) -> Any:
        file: Any = Told({key.replace("__", "."): value for key, value in metadata.items()}, *tensors)
        return lambda: rope_scaling(file, config)

    yarn = {"scaling__type": "yarn", "scaling__factor": 4.0}
    calls = {
        "rope_freqs.weight": told("rope_freqs.weight"),
        "scaling.yarn_beta_fast": told(**yarn, scaling__original_context_length=64, scaling__yarn_beta_fast=16.0),
        "part of a head's 16 channels": told(dimension_count=8),
        "type 'yarn' without": told(**yarn),
        "type 'longrope'": told(scaling__type="longrope", scaling__factor=4.0, scaling__original_context_length=64),
        "type 'linear' without": told(scaling__type="linear"),
    }
    refused(GgufError, calls)
    assert told(dimension_count=16, freq_base=1e4, scaling__type="none")() == {}
    assert told(scale_linear=2.0)() == {"rope_type": "linear", "factor": 2.0}


def test_tensors_that_an_import_would_lose_are_refused(tmp_path: Path) -> None:
    """Llama-3.1's factors, and biases of a family or a part that its configuration cannot name."""
    llama3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaled = {"rope_parameters": llama3 | {"original_max_position_embeddings": 64}}
    export(random_llama(tmp_path / "scaled", **scaled), tmp_path / "scaled.gguf")
    biased = random_llama(tmp_path / "biased", attention_bias=True)
    export(biased, tmp_path / "biased.gguf")
    plain = altered(biased, tmp_path / "plain", attention_bias=False)
    out = tmp_path / "out"
    out.mkdir()
    calls = {
        "rope_freqs.weight": lambda: import_gguf(tmp_path / "scaled.gguf", out, "tiny"),
        "takes the tensor blk.0.attn_k.bias": lambda: load_gguf_float(plain, tmp_path / "biased.gguf"),
    }
    refused(GgufError, calls)
    assert not any(out.iterdir())
    export(altered(plain, tmp_path / "bytes", attention_bias=True), tmp_path / "bytes.gguf")
    refused(GgufError, {"tokenizer": lambda: import_gguf(tmp_path / "bytes.gguf", out, "tiny")})  # it has no merges
