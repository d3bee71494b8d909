"""A released GGUF file becomes a float checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ramp.assets.install import fetch_asset, make_model
from ramp.core.errors import RampError
from tests.local_sources import one, write_registry

pytestmark = pytest.mark.usefixtures("offline_pip")


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

    from ramp.models.folder import CheckpointReader, load_float, load_tokenizer, read_config

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
