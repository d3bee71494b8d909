"""Packed checkpoints: the ledger against the file's own header, the way back, and damaged files."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from ramp.core.errors import RampError
from ramp.models.architecture import list_linears
from ramp.models.folder import CheckpointReader
from ramp.quantizers.affine import QuantizedLinear, quantize_rtn
from ramp.quantizers.sizes import group_size_for, uniform_bytes
from ramp.rows import checkpoint
from tests.model_folders import load_float, read_config

LEDGER = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")
KEY = {
    "study": "test",
    "model": "tiny",
    "method": "rtn",
    "grid": "affine",
    "stage": "final",
    "budget_bits": 4,
    "group_size": 32,
    "fold": "none",
    "seed": 0,
}


def parts(model_dir: Path, bits: int = 4) -> tuple[dict[str, QuantizedLinear], dict[str, torch.Tensor]]:
    """Every linear by RTN (one of them at 3 bits, so that the row is mixed), and every other tensor."""
    reader = CheckpointReader(model_dir)
    names = [x.name for x in list_linears(read_config(model_dir))]
    quantized = {}
    for i, name in enumerate(names):
        weight = reader.get(f"{name}.weight")
        quantized[name] = quantize_rtn(weight, 3 if i == 1 else bits, group_size_for(weight.shape[1], 32))
    return quantized, {n: reader.get(n) for n in reader.names() if n.removesuffix(".weight") not in names}


def save(out: Path, model_dir: Path, track: str = "q8_0", **changes: Any) -> dict[str, Any]:
    quantized, others = parts(model_dir)
    return checkpoint.save_packed(
        out, model_dir=model_dir, quantized=quantized, others=others, track=track, meta={**KEY, **changes}
    )


def header_of(path: Path) -> tuple[int, dict[str, Any]]:
    """The safetensors header by its published layout: 8 bytes of length, then JSON. (bytes it takes, entries)."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return 8 + length, json.loads(stream.read(length))


@pytest.fixture(params=["tiny_llama_dir", "tiny_qwen2_dir"])
def model_dir(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("track", ["q8_0", "fp16"])
def test_ledger_to_the_byte(model_dir: Path, tmp_path: Path, track: str) -> None:
    meta = save(tmp_path / "row", model_dir, track)
    path = tmp_path / "row" / "model.safetensors"
    assert meta["bytes_file"] == os.stat(path).st_size
    assert sum(meta[part] for part in LEDGER) == meta["bytes_file"]

    header_bytes, entries = header_of(path)
    entries.pop("__metadata__")
    sizes = {name: e["data_offsets"][1] - e["data_offsets"][0] for name, e in entries.items()}
    packed = {n: s for n, s in sizes.items() if n.endswith((".codes", ".scales", ".zeros"))}
    assert meta["bytes_linear"] == sum(packed.values())
    assert meta["bytes_embedding"] == sum(s for n, s in sizes.items() if "embed_tokens" in n)
    assert meta["bytes_head"] == sum(s for n, s in sizes.items() if n.startswith("lm_head"))
    small = sum(s for n, s in sizes.items() if "norm" in n or n.endswith(".bias"))
    assert meta["bytes_other"] == header_bytes + small

    config = read_config(model_dir)
    per_row = 64 // 32 * 34 if track == "q8_0" else 2 * 64
    assert meta["bytes_embedding"] == config.vocab_size * per_row
    assert meta["bytes_head"] == (0 if config.tie_word_embeddings else config.vocab_size * per_row)
    assert meta["tied_embeddings"] is config.tie_word_embeddings
    assert (meta["embedding_type"], meta["head_type"]) == (track, "tied" if config.tie_word_embeddings else track)
    assert meta["bytes_linear"] < uniform_bytes(list_linears(config), 4, 32)  # one linear has 3 bits
    assert checkpoint.read_meta(tmp_path / "row") == json.loads((tmp_path / "row" / "meta.json").read_text()) == meta
    params = sum(p.numel() for p in load_float(model_dir).parameters())
    assert meta["bpw_file"] == pytest.approx(8 * meta["bytes_file"] / params)


@pytest.mark.parametrize("track", ["q8_0", "fp16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loads_what_was_saved(model_dir: Path, tmp_path: Path, track: str, dtype: torch.dtype) -> None:
    """Against the float model with its weights replaced by hand; Q8_0 tables through gguf's own quantizer."""
    from gguf import GGMLQuantizationType, quants

    quantized, others = parts(model_dir)
    save(tmp_path / "row", model_dir, track)
    expected = load_float(model_dir, dtype)
    tied = expected.config.tie_word_embeddings
    with torch.no_grad():
        for name, q in quantized.items():
            expected.get_submodule(name).weight.copy_(q.dequantize(dtype))
        for name, tensor in others.items():
            value = tensor
            if name in ("model.embed_tokens.weight", "lm_head.weight"):
                kind = GGMLQuantizationType.Q8_0
                blocks = quants.dequantize(quants.quantize(tensor.numpy(), kind), kind)
                value = torch.from_numpy(blocks) if track == "q8_0" else tensor.half()
            elif name.endswith("bias"):
                value = tensor.half()
            expected.get_parameter(name).copy_(value.to(dtype))
    loaded = checkpoint.load_dequantized(tmp_path / "row", model_dir, dtype, "cpu")
    assert not loaded.training
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is tied
    states = loaded.state_dict(), expected.state_dict()
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name]), name
        assert states[0][name].dtype == dtype
    tokens = torch.arange(24).view(2, 12)
    assert torch.equal(loaded(tokens).logits, expected(tokens).logits)  # buffers (rotary) too
    assert not any(p.requires_grad or p.is_meta for p in loaded.parameters())


def test_needs_no_other_file(tiny_qwen2_dir: Path, tmp_path: Path) -> None:
    save(tmp_path / "row", tiny_qwen2_dir)
    loaded = checkpoint.load_dequantized(tmp_path / "row", tmp_path / "nowhere", torch.float32)
    assert loaded.config.model_type == "qwen2"
    assert loaded.config.rope_parameters == read_config(tiny_qwen2_dir).rope_parameters


def test_same_bytes_twice(tiny_llama_dir: Path, tmp_path: Path) -> None:
    first, second = (save(tmp_path / name, tiny_llama_dir) for name in "ab")
    assert first == second


def test_embedding_rows_that_blocks_do_not_divide(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    reader = CheckpointReader(tmp_path / "model")
    names = [x.name for x in list_linears(config)]
    quantized = {n: quantize_rtn(reader.get(f"{n}.weight"), 4, 16) for n in names}
    others = {n: reader.get(n) for n in reader.names() if n.removesuffix(".weight") not in names}
    meta = checkpoint.save_packed(
        tmp_path / "row",
        model_dir=tmp_path / "model",
        quantized=quantized,
        others=others,
        track="q8_0",
        meta={**KEY, "note": "tiny"},
    )
    assert meta["embedding_type"] == "fp16"
    assert meta["bytes_embedding"] == 40 * 48 * 2
    assert meta["note"].startswith("tiny; model.embed_tokens stored in fp16")
    checkpoint.load_dequantized(tmp_path / "row", tmp_path / "model", torch.float32)


@pytest.mark.parametrize("stage", ["float", "released"])
def test_float_rows(tiny_llama_dir: Path, tmp_path: Path, stage: str) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({**KEY, "stage": stage}))
    loaded = checkpoint.load_dequantized(tmp_path, tiny_llama_dir, torch.float32)
    expected = load_float(tiny_llama_dir)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), expected.parameters(), strict=True))


def test_ggml_rows_are_read_from_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("ramp.rows.checkpoint.load_gguf_float", lambda *args: calls.append(args) or "model")
    row = tmp_path / "row"
    row.mkdir()
    (row / "meta.json").write_text(json.dumps({**KEY, "grid": "ggml", "gguf": "../model.gguf"}))
    with pytest.raises(RampError, match="no GGUF file of the row"):
        checkpoint.load_dequantized(row, "model-dir", torch.float32)
    (tmp_path / "model.gguf").touch()
    assert checkpoint.load_dequantized(row, "model-dir", torch.float32) == "model"
    assert calls == [("model-dir", row / "../model.gguf", torch.float32, torch.device("cpu"))]


def test_damaged_files_are_one_sentence(tiny_llama_dir: Path, tmp_path: Path) -> None:
    row = tmp_path / "row"
    path = row / "model.safetensors"

    def load() -> None:
        checkpoint.load_dequantized(row, tiny_llama_dir, torch.float32)

    with pytest.raises(RampError, match=r"no row's meta\.json at"):
        load()
    meta = save(row, tiny_llama_dir)
    whole = path.read_bytes()

    path.write_bytes(whole[:-100])
    with pytest.raises(checkpoint.CheckpointError, match="is damaged"):
        load()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit
    with pytest.raises(checkpoint.CheckpointError, match="is damaged"):
        load()
    path.unlink()
    with pytest.raises(RampError, match="no packed checkpoint"):
        load()

    def rewrite(data: bytes) -> None:
        path.write_bytes(data)
        changed = {**meta, "bytes_file": len(data), "sha256": checkpoint.sha256_file(path)}
        (row / "meta.json").write_text(json.dumps(changed))

    rewrite(b"no safetensors file at all")
    with pytest.raises(checkpoint.CheckpointError, match="no packed checkpoint of this suite"):
        load()
    rewrite(whole.replace(b'format_version\\": 1', b'format_version\\": 7'))
    with pytest.raises(checkpoint.CheckpointError, match="format version 7, this code reads 1"):
        load()
    rewrite(whole.replace(b"layers.1.self_attn.k_proj.zeros", b"layers.1.self_attn.k_proj.heros"))
    with pytest.raises(
        checkpoint.CheckpointError, match=r"lacks a part of model\.layers\.1\.self_attn\.k_proj\.weight"
    ):
        load()
    (row / "meta.json").write_text("{}")
    with pytest.raises(checkpoint.CheckpointError, match="lacks study, model"):
        load()


def test_wrong_parts_are_named(tiny_llama_dir: Path, tiny_qwen2_dir: Path, tmp_path: Path) -> None:
    quantized, others = parts(tiny_llama_dir)
    name = "model.layers.1.mlp.up_proj"
    less = {k: v for k, v in quantized.items() if k != name}
    half = others["model.norm.weight"].clone()
    half[0] = float("inf")
    cases: list[tuple[dict, dict, str]] = [
        (less, others, f"no tensor for {name}.weight"),
        (quantized, {**others, "model.extra": half}, "model.extra is no parameter"),
        (quantized, {**others, "model.norm.weight": half[:5]}, r"model.norm.weight is \[5\]"),
        (quantized, {**others, "model.norm.weight": half}, "model.norm.weight has values"),
    ]
    for q, o, sentence in cases:
        arguments = {"model_dir": tiny_llama_dir, "track": "fp16", "meta": KEY}
        with pytest.raises(checkpoint.CheckpointError, match=sentence):
            checkpoint.save_packed(tmp_path / "row", quantized=q, others=o, **arguments)
        assert not (tmp_path / "row").exists()

    quantized, others = parts(tiny_qwen2_dir)  # tied: an equal head is dropped, another one refused
    embedding = others["model.embed_tokens.weight"]
    for head, fine in ((embedding.clone(), True), (embedding + 1, False)):
        arguments = {"model_dir": tiny_qwen2_dir, "quantized": quantized, "track": "q8_0", "meta": KEY}
        if fine:
            meta = checkpoint.save_packed(tmp_path / "tied", others={**others, "lm_head.weight": head}, **arguments)
            assert meta["bytes_head"] == 0
        else:
            with pytest.raises(checkpoint.CheckpointError, match=r"lm_head\.weight differs"):
                checkpoint.save_packed(tmp_path / "tied", others={**others, "lm_head.weight": head}, **arguments)
