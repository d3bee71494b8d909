"""A row in a second storage track: linears to the bit, embedding and head anew, sizes from the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ramp.core.files import read_json
from ramp.models.architecture import list_linears
from ramp.quantizers.affine import quantize_rtn
from ramp.rows.checkpoint import CheckpointError, load_dequantized, save_packed
from ramp.rows.retrack import main, store_again
from tests.model_folders import load_float, read_config

KEY = {"study": "test", "method": "rtn", "grid": "affine", "stage": "final", "budget_bits": 3.0, "group_size": 32}


def write_row(folder: Path, model_dir: Path, track: str = "q8_0", **changes: str) -> Path:
    state = load_float(model_dir).state_dict()
    linears = list_linears(read_config(model_dir))
    quantized = {x.name: quantize_rtn(state[f"{x.name}.weight"], 3, 32) for x in linears}
    others = {name: tensor for name, tensor in state.items() if name.removesuffix(".weight") not in quantized}
    for name in others:
        if "norm" in name:
            others[name] = 2 * others[name]  # as a fold leaves them: not those of the float checkpoint
    own = {"model": model_dir.name, "fold": "none", "seed": 0, "wall_s": 9.0, "simulated": True, "note": "own"}
    meta = KEY | own | changes
    save_packed(folder, model_dir=model_dir, quantized=quantized, others=others, track=track, meta=meta)
    return folder


@pytest.mark.parametrize("model", ["tiny_llama_dir", "tiny_qwen2_dir"])
def test_only_the_tables_change(model: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Untied head (Llama), tied head and biases (Qwen2)."""
    model_dir = request.getfixturevalue(model)
    row = write_row(tmp_path / "rtn-b3-s0", model_dir)
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
    direct = write_row(tmp_path / "direct", model_dir, track="fp16")
    for (name, a), b in zip(loaded.named_parameters(), load_dequantized(direct, model_dir).parameters(), strict=True):
        assert torch.equal(a, b), name


def test_and_back_again(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """From float16 to Q8_0 the tables come from the float checkpoint too, not from the rounded ones."""
    row = write_row(tmp_path / "row", tiny_llama_dir, track="fp16")
    arguments = ["--row-dir", str(row), "--model-dir", str(tiny_llama_dir), "--track", "q8_0"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    direct = write_row(tmp_path / "direct", tiny_llama_dir)
    a, b = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", direct))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_refusals(tiny_llama_dir: Path, tmp_path: Path) -> None:
    row = write_row(tmp_path / "row", tiny_llama_dir)
    with pytest.raises(CheckpointError, match="in track 'q8_0' already"):
        store_again(row, tiny_llama_dir, "q8_0", tmp_path / "out")
    bank = write_row(tmp_path / "bank", tiny_llama_dir, stage="bank")
    with pytest.raises(CheckpointError, match="only final affine rows"):
        store_again(bank, tiny_llama_dir, "fp16", tmp_path / "out")
    weights = row / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        store_again(row, tiny_llama_dir, "fp16", tmp_path / "out")
    assert not (tmp_path / "out").exists()
