"""Packed checkpoints: the ledger against the file's own header, the way back, damaged files, a second storage track."""

from __future__ import annotations

import json
import os
import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ramp.core.errors import RampError
from ramp.models.architecture import list_linears
from ramp.models.folder import ModelFolder
from ramp.models.streamed_model import StreamedModel
from ramp.quantizers import packing
from ramp.quantizers.affine import quantize_rtn
from ramp.quantizers.sizes import uniform_bytes
from ramp.quantizers.store import PackedWriter
from ramp.rows import checkpoint
from ramp.rows.checkpoint import CheckpointError, load_dequantized, save_packed
from ramp.rows.storage_track import main, store_again
from tests.model_folders import load_float, read_config
from tests.refusals import refused
from tests.rows import row_key, rtn_parts, write_row
from tests.sealed import read_json, write_sealed
from tests.tiny_models import random_llama, windows_of

LEDGER = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")


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
    meta = write_row(tmp_path / "row", model_dir, track)
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
    assert checkpoint.read_meta(tmp_path / "row") == read_json(tmp_path / "row" / "meta.json") == meta
    params = sum(p.numel() for p in load_float(model_dir).parameters())
    assert meta["bpw_file"] == pytest.approx(8 * meta["bytes_file"] / params)


@pytest.mark.parametrize("track", ["q8_0", "fp16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loads_what_was_saved(model_dir: Path, tmp_path: Path, track: str, dtype: torch.dtype) -> None:
    """Against the float model with its weights replaced by hand; Q8_0 tables through gguf's own quantizer."""
    from gguf import GGMLQuantizationType, quants

    quantized, others = rtn_parts(model_dir, 4)
    write_row(tmp_path / "row", model_dir, track)
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


def test_a_row_says_where_scales_are_too_small(tiny_llama_dir: Path, tmp_path: Path) -> None:
    quantized, others = rtn_parts(tiny_llama_dir, 4)
    name = "model.layers.0.mlp.up_proj"
    faint = quantize_rtn(1e-10 * quantized[name].dequantize(), 4, 32)
    save = partial(save_packed, model_dir=tiny_llama_dir, others=others, track="fp16", meta=row_key())
    assert save(tmp_path / "whole", quantized=quantized)["note"] == ""
    note = save(tmp_path / "faint", quantized=quantized | {name: faint})["note"]
    assert note.startswith(f"{faint.scales.numel()} groups")


def test_needs_no_other_file(tiny_qwen2_dir: Path, tmp_path: Path) -> None:
    write_row(tmp_path / "row", tiny_qwen2_dir)
    loaded = checkpoint.load_dequantized(tmp_path / "row", tmp_path / "nowhere", torch.float32)
    assert loaded.config.model_type == "qwen2"
    assert loaded.config.rope_parameters == read_config(tiny_qwen2_dir).rope_parameters


def test_same_bytes_twice(tiny_llama_dir: Path, tmp_path: Path) -> None:
    first, second = (write_row(tmp_path / name, tiny_llama_dir) for name in "ab")
    assert first == second


@pytest.mark.parametrize("track", ["q8_0", "fp16"])
def test_packed_linears_are_copied_as_they_are(
    model_dir: Path, tmp_path: Path, track: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of a row that packs each linear, without unpacking one."""
    quantized, others = rtn_parts(model_dir, 5)
    menu = {name: [q.bits] for name, q in quantized.items()}
    with PackedWriter(tmp_path / "linears.safetensors", ModelFolder(model_dir).linears, menu, 32) as writer:
        for name, q in quantized.items():
            writer.put(name, q.bits, q)
    save = partial(save_packed, model_dir=model_dir, others=others, track=track, meta=row_key())
    packing_each = save(tmp_path / "packed", quantized=quantized)
    for name in ("unpack_rows", "pack_rows"):
        monkeypatch.setattr(packing, name, lambda *given: pytest.fail("a packed linear was unpacked or packed again"))
    assert save(tmp_path / "copied", quantized=writer.read()) == packing_each
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("packed", "copied"))
    assert one == other


def test_embedding_rows_that_blocks_do_not_divide(tmp_path: Path) -> None:
    model = random_llama(tmp_path / "model", hidden_size=48, head_dim=16)
    meta = write_row(tmp_path / "row", model, group_size=16, note="tiny")
    assert meta["embedding_type"] == "fp16"
    assert meta["bytes_embedding"] == read_config(model).vocab_size * 48 * 2
    assert meta["note"].startswith("tiny; model.embed_tokens stored in fp16")
    checkpoint.load_dequantized(tmp_path / "row", model, torch.float32)


@pytest.mark.parametrize("stage", ["float", "released"])
def test_float_rows(tiny_llama_dir: Path, tmp_path: Path, stage: str) -> None:
    write_sealed(tmp_path / "meta.json", row_key(stage=stage))
    loaded = checkpoint.load_dequantized(tmp_path, tiny_llama_dir, torch.float32)
    expected = load_float(tiny_llama_dir)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), expected.parameters(), strict=True))


def test_the_file_is_what_safetensors_writes(model_dir: Path, tmp_path: Path) -> None:
    """It is written tensor by tensor; all at once gives the same bytes."""
    write_row(tmp_path / "row", model_dir)
    path = tmp_path / "row" / "model.safetensors"
    _, header = header_of(path)
    save_file(load_file(path), tmp_path / "again", metadata=header["__metadata__"])
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_ggml_rows_are_read_from_their_file(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def parameters(model_dir: Path, gguf: Path) -> tuple[Any, Any]:
        asked.append((model_dir, gguf))
        model = ModelFolder(model_dir)
        return model.config, model.reader.get

    monkeypatch.setattr("ramp.rows.checkpoint.gguf_parameters", parameters)
    row = tmp_path / "row"
    row.mkdir()

    def load() -> Any:
        return checkpoint.load_dequantized(row, tiny_llama_dir, torch.float32)

    write_sealed(row / "meta.json", row_key(grid="ggml", gguf="../model.gguf"))
    refused(RampError, {"no GGUF file": load})
    (tmp_path / "model.gguf").touch()
    load()
    assert asked == [(tiny_llama_dir, row / "../model.gguf")]


def test_a_row_that_does_not_fit_is_streamed_and_scores_the_same(
    tiny_llama_dir: Path, tiny_qwen2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, untied and tied, in both dtypes; nothing but its windows is whole in memory."""
    from ramp.evaluation.heldout import evaluate, float_head, make_reference

    for index, model in enumerate((tiny_llama_dir, tiny_qwen2_dir)):
        row, windows = tmp_path / str(index), windows_of(model, 3, 40, seed=1)
        write_row(row, model)
        for dtype in (torch.float32, torch.bfloat16):
            found = []
            for fitting in (True, False):
                monkeypatch.setattr("ramp.models.streamed_model.fits", lambda *args, fitting=fitting: fitting)
                opened = checkpoint.open_dequantized(row, model, dtype, torch.device("cpu"))
                assert isinstance(opened, StreamedModel) is not fitting
                reference = make_reference(load_float(model, dtype), windows, {})
                found.append(evaluate(opened, reference, float_head(model, dtype, torch.device("cpu"))))
            assert found[0] == found[1]


def test_damaged_files_are_one_sentence(tiny_llama_dir: Path, tmp_path: Path) -> None:
    row = tmp_path / "row"
    path = row / "model.safetensors"

    def refused_as(words: str, kind: type[Exception] = RampError) -> None:
        refused(kind, {words: lambda: checkpoint.load_dequantized(row, tiny_llama_dir, torch.float32)})

    refused_as("meta.json", RampError)
    meta = write_row(row, tiny_llama_dir)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    refused_as("damaged")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit
    refused_as("damaged")
    path.unlink()
    refused_as("no packed checkpoint")

    for data, words in (
        (b"no safetensors file at all", "no safetensors file"),
        (whole.replace(b'format_version\\": 1', b'format_version\\": 7'), "version 7"),
        (whole.replace(b'model_type\\": \\"llama', b'model_type\\": \\"lllll'), "lllll"),
        (whole.replace(b"layers.1.self_attn.k_proj.zeros", b"layers.1.self_attn.k_proj.heros"), "1.self_attn.k_proj"),
    ):
        path.write_bytes(data)
        changed = {**meta, "bytes_file": len(data), "sha256": checkpoint.sha256_file(path)}
        write_sealed(row / "meta.json", changed)
        refused_as(words)
    write_sealed(row / "meta.json", {})
    refused_as("study: Field required")
    (row / "meta.json").write_text("{}")
    refused_as("no checksum")


def test_wrong_parts_are_named(tiny_llama_dir: Path, tiny_qwen2_dir: Path, tmp_path: Path) -> None:
    quantized, others = rtn_parts(tiny_llama_dir, 4)
    name = "model.layers.1.mlp.up_proj"
    less = {k: v for k, v in quantized.items() if k != name}
    half = others["model.norm.weight"].clone()
    half[0] = float("inf")

    def packed(q: Any = quantized, model_dir: Path = tiny_llama_dir, o: Any = others, **changes: Any) -> dict[str, Any]:
        options = {"track": "fp16", "meta": row_key(), **changes}
        return checkpoint.save_packed(tmp_path / "row", model_dir=model_dir, quantized=q, others=o, **options)

    calls = {
        f"no tensor for {name}": lambda: packed(less),
        "model.extra is no parameter": lambda: packed(o={**others, "model.extra": half}),
        "model.norm.weight is [5]": lambda: packed(o={**others, "model.norm.weight": half[:5]}),
        "model.norm.weight has values": lambda: packed(o={**others, "model.norm.weight": half}),
    }
    quantized_tied, others_tied = rtn_parts(tiny_qwen2_dir, 4)  # tied: an equal head is dropped, another one refused
    embedding = others_tied["model.embed_tokens.weight"]

    def tied(head: torch.Tensor) -> dict[str, Any]:
        return packed(quantized_tied, tiny_qwen2_dir, {**others_tied, "lm_head.weight": head})

    refused(checkpoint.CheckpointError, {**calls, "lm_head.weight differs": lambda: tied(embedding + 1)})
    assert not (tmp_path / "row").exists()
    assert tied(embedding.clone())["bytes_head"] == 0


def folded_row(folder: Path, model_dir: Path, track: str = "q8_0") -> Path:
    """A row whose norms are not those of the float checkpoint, as a fold leaves them."""
    quantized, others = rtn_parts(model_dir, 3)
    others = {name: 2 * tensor if "norm" in name else tensor for name, tensor in others.items()}
    meta = row_key(model=model_dir.name, wall_s=9.0, simulated=True, note="own")
    save_packed(folder, model_dir=model_dir, quantized=quantized, others=others, track=track, meta=meta)
    return folder


@pytest.mark.parametrize("model", ["tiny_llama_dir", "tiny_qwen2_dir"])
def test_only_the_tables_change(model: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Untied head (Llama), tied head and biases (Qwen2)."""
    model_dir = request.getfixturevalue(model)
    row = folded_row(tmp_path / "rtn-b3-s0", model_dir)
    meta = store_again(row, model_dir, "fp16", tmp_path / "rtn-b3-s0-fp16")
    old, new = (load_file(folder / "model.safetensors") for folder in (row, tmp_path / "rtn-b3-s0-fp16"))
    tables = {"model.embed_tokens.weight"} | ({"lm_head.weight"} if "llama" in model else set())
    assert {name.removesuffix(".q8_0") for name in old} == set(new)
    state = load_float(model_dir).state_dict()
    for name, tensor in new.items():
        if name in tables:
            assert torch.equal(tensor, state[name].to(torch.float16))
        else:
            assert torch.equal(tensor, old[name]), name
    before = read_json(row / "meta.json")
    assert (meta["stage"], meta["track"], meta["embedding_type"]) == ("final_fp16", "fp16", "fp16")
    assert meta["bytes_linear"] == before["bytes_linear"]
    assert meta["bytes_embedding"] > before["bytes_embedding"]
    assert meta["bytes_file"] == (tmp_path / "rtn-b3-s0-fp16" / "model.safetensors").stat().st_size
    assert meta["wall_s"] != 9.0  # not the quantization's
    assert meta["note"] == "own"
    loaded = load_dequantized(tmp_path / "rtn-b3-s0-fp16", model_dir)
    direct = folded_row(tmp_path / "direct", model_dir, "fp16")
    for (name, a), b in zip(loaded.named_parameters(), load_dequantized(direct, model_dir).parameters(), strict=True):
        assert torch.equal(a, b), name


def test_and_back_again(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """From float16 to Q8_0 the tables come from the float checkpoint too, not from the rounded ones."""
    row = folded_row(tmp_path / "row", tiny_llama_dir, "fp16")
    arguments = ["--row-dir", str(row), "--model-dir", str(tiny_llama_dir), "--track", "q8_0"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    direct = folded_row(tmp_path / "direct", tiny_llama_dir)
    a, b = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", direct))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_refused_tracks(tiny_llama_dir: Path, tmp_path: Path) -> None:
    row, bank = folded_row(tmp_path / "row", tiny_llama_dir), tmp_path / "bank"
    write_row(bank, tiny_llama_dir, stage="bank")
    again = partial(store_again, model_dir=tiny_llama_dir, out=tmp_path / "out")
    refused(
        CheckpointError,
        {"'q8_0' already": lambda: again(row, track="q8_0"), "final": lambda: again(bank, track="fp16")},
    )
    refused(RampError, {"pass the folder of its model": lambda: again(row, model_dir=tmp_path, track="fp16")})
    weights = row / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    refused(RampError, {"damaged": lambda: again(row, track="fp16")})
    assert not (tmp_path / "out").exists()
