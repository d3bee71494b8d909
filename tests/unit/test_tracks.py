"""A row in a second storage track: linears to the bit, embedding and head anew, sizes from the file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ramp.core.files import read_json
from ramp.models.folder import load_float
from ramp.rows.checkpoint import CheckpointError, load_dequantized, save_packed
from ramp.rows.retrack import main, store_again
from tests.refusals import refused
from tests.rows import row_key, rtn_parts, write_row


def folded_row(folder: Path, model_dir: Path, track: str = "q8_0") -> Path:
    """A row whose norms are not those of the float checkpoint, as a fold leaves them."""
    quantized, others = rtn_parts(model_dir, 3)
    others = {name: 2 * tensor if "norm" in name else tensor for name, tensor in others.items()}
    meta = row_key(wall_s=9.0, simulated=True, note="own")
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


def test_refusals(tiny_llama_dir: Path, tmp_path: Path) -> None:
    row, bank = folded_row(tmp_path / "row", tiny_llama_dir), tmp_path / "bank"
    write_row(bank, tiny_llama_dir, stage="bank")
    again = partial(store_again, model_dir=tiny_llama_dir, out=tmp_path / "out")
    refused(
        CheckpointError,
        {"'q8_0' already": lambda: again(row, track="q8_0"), "final": lambda: again(bank, track="fp16")},
    )
    weights = row / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    refused(CheckpointError, {"damaged": lambda: again(row, track="fp16")})
    assert not (tmp_path / "out").exists()
