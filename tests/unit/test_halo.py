"""The plan, the writer and the reader of GGUF files, tokenizers in them; llama.cpp itself is in test_llamacpp.py."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from ramp.core import arithmetic
from ramp.core.errors import RampError
from ramp.export import halo
from ramp.export.llamacpp_check import check_layout
from ramp.export.plan import plan_tensors, read_plan, type_lines
from ramp.export.write import export, read_importance
from ramp.gguf_format import reader
from ramp.gguf_format.names import GgufError, from_gguf_rows, gguf_tensors, to_gguf_rows
from ramp.gguf_format.reader import GgufFile
from ramp.gguf_format.vocabulary import UNREACHABLE_MERGE, pre_tokenizer_name
from ramp.models.architecture import architecture, list_linears
from ramp.models.folder import CheckpointReader, ModelFolder
from ramp.problem.allocation import write_allocation
from tests.gguf_inputs import allocation_of, statistics
from tests.model_folders import load_float, load_gguf_float, read_config
from tests.refusals import refused
from tests.sealed import read_json, save_sealed
from tests.tiny_models import altered

WIDTHS = (3, 4, 5, 6, 8, 2)


@pytest.fixture(params=["tiny_llama_dir", "tiny_qwen2_dir"])
def model_dir(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def norm_fold(model_dir: Path, path: Path) -> Path:
    """Random scales on the two norms of every block."""
    generator = torch.Generator().manual_seed(1)
    sites = {x.site: x.d_in for x in list_linears(read_config(model_dir)) if x.role in ("q", "gate")}
    save_sealed({s: torch.exp(torch.rand(n, generator=generator) - 0.5) for s, n in sites.items()}, path)
    return path


def test_every_tensor_of_the_checkpoint_has_a_name_of_its_own(model_dir: Path) -> None:
    tensors = gguf_tensors(read_config(model_dir))
    assert sorted(tensor.source for tensor in tensors) == CheckpointReader(model_dir).names()
    block = [tensor.name for tensor in tensors if tensor.layer == 1 and tensor.kind != "bias"]
    linears = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    assert block == [f"blk.1.{part}.weight" for part in ("attn_norm", "ffn_norm", *linears)]
    assert {"token_embd.weight", "output_norm.weight"} < {tensor.name for tensor in tensors}
    biases = {tensor.name for tensor in tensors if tensor.kind == "bias"}
    assert biases in (set(), {f"blk.{layer}.attn_{role}.bias" for layer in (0, 1) for role in "qkv"})


@given(heads=st.integers(1, 5), half=st.integers(1, 4), columns=st.integers(0, 3), seed=st.integers(0, 99))
def test_row_order_inverts(heads: int, half: int, columns: int, seed: int) -> None:
    shape = (heads * half * 2, columns) if columns else (heads * half * 2,)
    values = np.random.default_rng(seed).normal(size=shape)
    np.testing.assert_array_equal(from_gguf_rows(to_gguf_rows(values, heads), heads), values)
    np.testing.assert_array_equal(to_gguf_rows(values, 0), values)


def test_float_file_holds_the_very_weights(model_dir: Path, tmp_path: Path) -> None:
    plan = export(model_dir, tmp_path / "float.gguf")
    assert {tensor.type for tensor in plan.tensors} == {"F32"}
    ours = load_gguf_float(model_dir, tmp_path / "float.gguf")
    theirs = load_float(model_dir)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, values in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], values), name
    ids = torch.arange(12)[None]
    assert torch.equal(ours(ids).logits, theirs(ids).logits)
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_transformers_reads_our_float_file_to_the_same_weights(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """The loader of transformers undoes the q/k permutation by code of its own."""
    from transformers import AutoModelForCausalLM

    export(tiny_llama_dir, tmp_path / "float.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="float.gguf", dtype=torch.float32).state_dict()
    for name, values in ModelFolder(tiny_llama_dir).load_float().state_dict().items():
        assert torch.equal(theirs[name], values), name


def test_metadata_of_the_model(model_dir: Path, tmp_path: Path) -> None:
    export(model_dir, tmp_path / "float.gguf")
    file, config = GgufFile(tmp_path / "float.gguf"), read_config(model_dir)
    arch = file.metadata("general.architecture")
    assert arch == architecture(config).gguf_arch
    assert file.metadata(f"{arch}.context_length") == config.max_position_embeddings
    assert file.metadata(f"{arch}.attention.head_count_kv") == config.num_key_value_heads
    assert file.metadata(f"{arch}.rope.freq_base") == config.rope_parameters["rope_theta"]
    assert file.metadata(f"{arch}.attention.layer_norm_rms_epsilon") == pytest.approx(config.rms_norm_eps)
    assert len(file.metadata("tokenizer.ggml.tokens")) == config.vocab_size
    assert file.metadata("tokenizer.ggml.merges") == [UNREACHABLE_MERGE]
    assert file.metadata("tokenizer.ggml.token_type")[:2] == [3, 3]


def test_plan_types_fallbacks_and_bytes(tiny_llama_dir: Path, tmp_path: Path) -> None:
    config, allocation = read_config(tiny_llama_dir), allocation_of(tiny_llama_dir, WIDTHS)
    plan = plan_tensors(config, allocation.bits, "q8_0")
    linears = [tensor for tensor in plan if tensor.kind == "linear"]
    fallback = {3: "Q4_0", 4: "Q5_0", 5: "Q5_1", 6: "Q8_0", 8: "Q8_0", 2: "Q4_0"}  # rows of 64 and 128
    for tensor in linears:
        bits = allocation.bits[tensor.source.removesuffix(".weight")]
        assert tensor.type == fallback[bits]
        assert (tensor.requested is None) == (bits == 8)
    for tensor in plan:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[tensor.type]]
        assert tensor.bytes == np.prod(tensor.shape) // block * size
    others = {tensor.kind: tensor.type for tensor in plan if tensor.kind != "linear"}
    assert others == {"embedding": "Q8_0", "head": "Q8_0", "norm": "F32"}
    half = plan_tensors(config, allocation.bits, "fp16")
    assert {tensor.type for tensor in half if tensor.kind in ("embedding", "head")} == {"F16"}


def test_impossible_plans_end_in_one_sentence(tiny_llama_dir: Path) -> None:
    config, bits = read_config(tiny_llama_dir), allocation_of(tiny_llama_dir, WIDTHS).bits
    calls = {
        "lacks model.layers.0.mlp.down_proj": lambda: plan_tensors(config, {}, "q8_0"),
        "names model.layers.9": lambda: plan_tensors(config, {**bits, "model.layers.9.mlp.up_proj": 4}, "q8_0"),
        "7 bits": lambda: plan_tensors(config, {**bits, "model.layers.0.self_attn.q_proj": 7}, "q8_0"),
    }
    refused(GgufError, calls)


def test_type_file_names_each_tensor_once(tiny_llama_dir: Path) -> None:
    """Lines are regular expressions that llama.cpp searches for in every name, in lower case, first match wins."""
    config = read_config(tiny_llama_dir)
    config.num_hidden_layers = 12  # blk.1 must not match blk.11
    bits = {linear.name: 4 for linear in list_linears(config)}
    plan = plan_tensors(config, bits, "q8_0")
    lines = type_lines(plan).split()
    names = [tensor.name for tensor in plan]
    assert len(lines) == 12 * 7 + 2
    for line in lines:
        pattern, _, kind = line.partition("=")
        matched = [name for name in names if re.search(pattern.lower(), name)]
        assert len(matched) == 1
        assert next(tensor.type for tensor in plan if tensor.name == matched[0]).lower() == kind


def test_export_writes_what_it_planned(model_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "row.gguf"
    allocation, calibration = allocation_of(model_dir, WIDTHS), statistics(model_dir, tmp_path / "c.safetensors")
    plan = export(model_dir, out, allocation, calibration)
    assert read_plan(tmp_path / "row.plan.json") == plan
    assert (tmp_path / "row.types.txt").read_text().startswith("^token_embd\\.weight$=q8_0\n")
    sizes = plan.sizes
    assert sizes["bytes_file"] == out.stat().st_size == sum(v for k, v in sizes.items() if k != "bytes_file")
    assert sizes["bytes_other"] > 0
    assert (sizes["bytes_head"] == 0) == read_config(model_dir).tie_word_embeddings
    checks = check_layout(out, plan)
    assert [one for one in checks if not one.ok] == []
    assert len(checks) == 7
    again = export(model_dir, tmp_path / "again.gguf", allocation, calibration)
    assert (tmp_path / "again.gguf").read_bytes() == out.read_bytes()
    assert [t.sha256 for t in again.tensors] == [t.sha256 for t in plan.tensors]
    export(model_dir, tmp_path / "shared.gguf", allocation, calibration, workers=2)
    assert (tmp_path / "shared.gguf").read_bytes() == out.read_bytes()


def test_fold_reaches_norms_linears_and_importance(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Norms are divided by s, q's columns multiplied, mean squares divided by s^2; the function stays the same."""
    fold = norm_fold(tiny_llama_dir, tmp_path / "awq.safetensors")
    calibration = statistics(tiny_llama_dir, tmp_path / "c.safetensors")
    out = tmp_path / "folded.gguf"
    plan = export(tiny_llama_dir, out, allocation_of(tiny_llama_dir, (8,)), calibration, fold=fold)
    assert plan.fold == "awq"
    scales, site, config = load_file(fold), "model.layers.1.attn_in", read_config(tiny_llama_dir)
    gains = CheckpointReader(tiny_llama_dir).get("model.layers.1.input_layernorm.weight") / scales[site]
    np.testing.assert_allclose(GgufFile(out).values("blk.1.attn_norm.weight"), gains.numpy(), rtol=1e-6)
    weights = CheckpointReader(tiny_llama_dir).get("model.layers.1.self_attn.v_proj.weight") * scales[site]
    np.testing.assert_allclose(GgufFile(out).values("blk.1.attn_v.weight"), weights.numpy(), atol=0.01)
    plain = read_importance(calibration, {}, config)["blk.1.attn_q.weight"]
    folded = read_importance(calibration, scales, config)["blk.1.attn_q.weight"]
    np.testing.assert_allclose(folded, plain / scales[site].numpy() ** 2, rtol=1e-6)
    ids = torch.arange(20)[None]
    ours, theirs = load_gguf_float(tiny_llama_dir, out)(ids).logits, load_float(tiny_llama_dir)(ids).logits
    assert (ours - theirs).norm() / theirs.norm() < 0.02


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_share_the_rows_of_a_tensor(
    tiny_llama_dir: Path, tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values are those of the gguf package, which makes a whole tensor on one thread."""
    out = tmp_path / "row.gguf"
    export(tiny_llama_dir, out, allocation_of(tiny_llama_dir, WIDTHS), statistics(tiny_llama_dir, tmp_path / "c"))
    whole = {each.name: dequantize(each.data, each.tensor_type) for each in gguf.GGUFReader(str(out)).tensors}
    file, used = GgufFile(out), set()

    def seen(*given: Any) -> np.ndarray:
        used.add(threading.get_ident())
        time.sleep(0.001)  # or one thread is done before the next begins
        return dequantize(*given)

    monkeypatch.setattr(reader, "dequantize", seen)
    monkeypatch.setattr(reader, "PIECE", 1 << 10)
    with ThreadPoolExecutor(threads) as pool:
        monkeypatch.setattr(arithmetic._Kernels, "pool", pool)
        for name, values in whole.items():
            found = file.values(name)
            assert found.dtype == np.float32
            assert found.shape == file.shape(name)
            np.testing.assert_array_equal(found.reshape(-1), values.reshape(-1))
    here = {threading.get_ident()}
    assert 1 <= len(used - here) <= threads
    assert (len(used - here) > 1) == (threads > 1)


def test_calibration_of_another_model_is_refused(tiny_llama_dir: Path, tmp_path: Path) -> None:
    save_sealed({"model.layers.0.attn_in/sqmean": torch.ones(64)}, tmp_path / "c.safetensors")
    with pytest.raises(GgufError, match=r"0\.o_in"):
        export(tiny_llama_dir, tmp_path / "a.gguf", allocation_of(tiny_llama_dir), tmp_path / "c.safetensors")
    assert list(tmp_path.glob("*a.gguf*")) == []  # nothing half-written is left


def test_damage_is_found(tiny_llama_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "float.gguf"
    plan = export(tiny_llama_dir, out)
    data = bytearray(out.read_bytes())
    data[-40] ^= 1
    out.write_bytes(data)
    failed = {one.check: one.value for one in check_layout(out, plan) if not one.ok}
    assert failed == {"contents_differ": 1.0}
    first = replace(plan.tensors[0], type="Q8_0", bytes=1, shape=(1,))
    lying = replace(plan, tensors=[first, *plan.tensors[2:]])
    failed = {one.check for one in check_layout(out, lying) if not one.ok}
    assert failed == {"tensors_unplanned", "types_differ", "shapes_differ", "bytes_differ", "contents_differ"}
    out.write_bytes(data[: len(data) // 2])
    calls = {"not a readable": lambda: GgufFile(out), "no GGUF file": lambda: GgufFile(tmp_path / "absent.gguf")}
    refused(RampError, calls)


def test_file_of_another_model_is_refused(tiny_llama_dir: Path, tiny_qwen2_dir: Path, tmp_path: Path) -> None:
    export(tiny_llama_dir, tmp_path / "float.gguf")
    with pytest.raises(GgufError, match="takes the tensor output"):
        load_gguf_float(tiny_qwen2_dir, tmp_path / "float.gguf")


def test_unknown_rotary_embedding_ends_in_one_sentence(tiny_llama_dir: Path, tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    folder = altered(tiny_llama_dir, tmp_path / "model", rope_parameters=rope)
    refused(GgufError, {"'dynamic'": lambda: export(folder, tmp_path / "float.gguf")})


def test_command_line(tiny_llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ramp.core import cli

    allocation = tmp_path / "alloc.json"
    write_allocation(allocation, allocation_of(tiny_llama_dir, WIDTHS))
    calibration, out = statistics(tiny_llama_dir, tmp_path / "c.safetensors"), tmp_path / "a" / "row-b3.65-s0.gguf"
    model = ["--model-dir", str(tiny_llama_dir)]
    options = ["--allocation", str(allocation), "--calibration", str(calibration), "--track", "fp16"]
    assert cli.run(halo.main, ["export", *model, *options, "--out", str(out)]) == 0
    assert {path.name for path in out.parent.iterdir()} == {
        f"{out.stem}{end}" for end in (".gguf", ".plan.json", ".types.txt")
    }
    plan = out.parent / "row-b3.65-s0.plan.json"
    row = ["--gguf", str(out), "--plan", str(plan), "--study", "s", "--allocation", str(allocation)]
    assert cli.run(halo.main, ["row", *model, *row, "--out", str(tmp_path / "row")]) == 0
    assert read_json(tmp_path / "row" / "meta.json")["track"] == "fp16"
    capsys.readouterr()
    allocation.write_text("{}")
    assert cli.run(halo.main, ["export", *model, *options, "--out", str(out)]) == 2
    assert "(model: Field required" in capsys.readouterr().err
    assert cli.run(halo.main, ["float", *model, "--out", str(tmp_path / "float.bin")]) == 2
    assert "not named *.gguf" in capsys.readouterr().err


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (None, None),
        ({"type": "Metaspace", "replacement": "▁"}, None),
        (BYTE_LEVEL, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [BYTE_LEVEL]}, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [DIGITS, BYTE_LEVEL]}, "smollm"),
    ],
)
def test_pre_tokenizer_names(spec: dict[str, Any] | None, name: str | None) -> None:
    assert pre_tokenizer_name(spec) == name


def test_unknown_tokenizers_end_in_one_sentence(tiny_llama_dir: Path, tmp_path: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
    unknown = {"type": "Sequence", "pretokenizers": [split, {**BYTE_LEVEL, "use_regex": False}]}
    folder = altered(tiny_llama_dir, tmp_path / "model")
    spec = read_json(folder / "tokenizer.json")
    spec["model"] = {"type": "WordLevel", "vocab": spec["model"]["vocab"], "unk_token": "<s>"}
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    calls = {
        "Split + ByteLevel": lambda: pre_tokenizer_name(unknown),
        "'WordLevel'": lambda: export(folder, tmp_path / "float.gguf"),
    }
    refused(GgufError, calls)
