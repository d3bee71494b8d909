"""A released GGUF file becomes a float checkpoint folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ramp.assets.checkpoint import make_model
from ramp.assets.tiny_family import PRESETS
from ramp.assets.train_tiny import build_model, train_tokenizer
from ramp.core.errors import RampError
from ramp.export.write import export
from ramp.gguf.reader import load_gguf_float
from ramp.models.architecture import list_linears
from ramp.models.folder import CheckpointReader
from ramp.models.save_folder import save_model, save_tokenizer
from ramp.models.token_windows import Document
from tests.gguf_inputs import allocation_of, statistics
from tests.local_sources import fetched, one, write_registry
from tests.model_folders import load_float, load_tokenizer, read_config

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
    monkeypatch.setattr("ramp.gguf.vocabulary.pre_tokenizer_name", lambda spec: "smollm")
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
    assert json.loads((out / "config.json").read_text())["rope_theta"] == 50000.0  # for transformers 4
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
