"""The ggml grid against code that is not ours: gguf's numpy quantizers and the pinned llama.cpp itself."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ramp.quantizers import ggml
from ramp.quantizers.affine import QuantizeError
from tests.refusals import refused

LLAMA_CPP = """
import json, sys
import cyllama.llama.llama_cpp as llama

source, out = sys.argv[1:3]
for name, ftype in json.loads(sys.argv[3]).items():
    params = llama.LlamaModelQuantizeParams()
    params.ftype, params.nthread = ftype, 1
    llama.model_quantize(source, f"{out}/{name}.gguf", params)
"""
FTYPES = {"Q2_K": 10, "Q3_K": 11, "Q4_K": 14, "Q5_K": 16, "Q6_K": 18, "IQ4_XS": 30, "IQ3_S": 26}
"""llama.h's ``llama_ftype`` of the mixes that give a plain attention query of that type (the _S ones)."""


def dequantize(packed: np.ndarray, name: str) -> np.ndarray:
    return gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name])


def bits_per_weight(name: str) -> float:
    count, size = ggml.BLOCKS[name]
    return 8 * size / count


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32) * 0.05


def write_llama(path: Path, hidden: int, inter: int) -> dict[str, np.ndarray]:
    """A one-block Llama GGUF in float32, without a vocabulary; returns its matrices."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inter)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(32)
    writer.add_rope_dimension_count(hidden)
    writer.add_tokenizer_model("no_vocab")
    shapes = {"token_embd": (32, hidden), "output": (32, hidden)}
    shapes |= {f"blk.0.{x}": (hidden, hidden) for x in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {"blk.0.ffn_gate": (inter, hidden), "blk.0.ffn_up": (inter, hidden), "blk.0.ffn_down": (hidden, inter)}
    matrices = {f"{name}.weight": weights(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    norms = {f"{x}.weight": np.ones(hidden, np.float32) for x in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")}
    for name, tensor in (matrices | norms).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return matrices


@pytest.mark.parametrize(("hidden", "inter"), [(64, 48), (256, 96)])
def test_types_and_bytes_of_the_pinned_llama_cpp(tmp_path: Path, hidden: int, inter: int) -> None:
    """llama.cpp quantizes a small model to every K-quant: its fallback types, and its bytes, are ours.

    Rows of 64 fall back to 32-blocks, rows of 48 to F16, rows of 96 to 32-blocks, rows of 256 stay K-quants.
    """
    matrices = write_llama(tmp_path / "float.gguf", hidden, inter)
    arguments = [str(tmp_path / "float.gguf"), str(tmp_path), json.dumps(FTYPES)]
    # In a process of its own: llama.cpp aborts where Python would raise.
    done = subprocess.run([sys.executable, "-c", LLAMA_CPP, *arguments], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    compared = 0
    for asked in FTYPES:
        for tensor in gguf.GGUFReader(tmp_path / f"{asked}.gguf").tensors:
            if tensor.name not in ("blk.0.attn_q.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_down.weight"):
                continue
            rows = matrices[tensor.name]
            ours = ggml.fallback_type(asked, rows.shape[1])
            if tensor.name == "blk.0.ffn_down.weight":
                # The mixes give this role another type than the one asked for: only F16 is certain.
                assert (tensor.tensor_type.name == "F16") == (ours == "F16")
            else:
                assert tensor.tensor_type.name == ours, (asked, tensor.name)
            packed = ggml.quantize_ggml(rows, tensor.tensor_type.name)
            assert np.asarray(tensor.data).view(np.uint8).tobytes() == packed.tobytes(), (asked, tensor.name)
            assert tensor.n_bytes == rows.shape[0] * ggml.row_bytes(tensor.tensor_type.name, rows.shape[1])
            compared += 1
    assert compared == 3 * len(FTYPES)


def test_bits_per_weight_are_the_published_ones() -> None:
    """design.md, section 4."""
    published = {"Q2_K": 2.625, "Q3_K": 3.4375, "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625, "Q8_0": 8.5}
    published |= {"Q4_0": 4.5, "Q5_0": 5.5, "Q5_1": 6.0, "IQ4_NL": 4.5, "F16": 16.0}
    assert {name: bits_per_weight(name) for name in published} == published


def test_fallback() -> None:
    kept = [ggml.fallback_type(bits, 256) for bits in (2, 3, 4, 5, 6, 8)]
    assert kept == ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0"]
    assert [ggml.fallback_type(bits, 576) for bits in (3, 4, 5, 6, 8)] == ["Q4_0", "Q5_0", "Q5_1", "Q8_0", "Q8_0"]
    assert {ggml.fallback_type(bits, 172) for bits in (3, 4, 5, 6, 8)} == {"F16"}
    calls = {"7 bits": lambda: ggml.fallback_type(7, 256), "'Q9_Z'": lambda: ggml.fallback_type("Q9_Z", 256)}
    refused(QuantizeError, calls)


@pytest.mark.parametrize("name", sorted(ggml.BLOCKS))
def test_round_trip_with_an_importance_matrix(name: str) -> None:
    rows = weights(4, 512)
    importance = torch.from_numpy(np.random.default_rng(1).random(512)) + 0.01
    packed = ggml.quantize_ggml(torch.from_numpy(rows), name, importance)
    assert packed.dtype == np.uint8
    assert packed.shape == (4, ggml.row_bytes(name, 512))
    back = dequantize(packed, name)
    assert back.shape == rows.shape
    bits = bits_per_weight(name)
    # A Gaussian at rate R bits has at least 2^-R of its deviation as error (Shannon); these types are near it.
    assert float(np.std(back - rows) / np.std(rows)) < 3 * 2.0 ** -min(bits, 11)


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q5_1", "Q8_0"])
def test_equals_ggufs_own_quantizer(name: str) -> None:
    rows = weights(8, 96)
    expected = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[name])
    assert np.array_equal(ggml.quantize_ggml(rows, name), expected)


def test_errors_name_the_layer() -> None:
    rows = weights(4, 256)
    bad = rows.copy()
    bad[0, 0] = np.nan
    cases: dict[str, tuple[Any, ...]] = {
        "layer has weights that are NaN": (bad, "Q4_K"),
        "layer: IQ2_XS needs": (rows, "IQ2_XS"),
        "layer: importance [255]": (rows, "Q4_K", np.ones(255, np.float32)),
        "not all 0": (rows, "Q4_K", np.zeros(256, np.float32)),
        "from 0 up": (rows, "Q4_K", -np.ones(256, np.float32)),
        "beyond float16": (rows * 1e7, "F16"),
        "only matrices": (rows[0], "Q4_K"),
        "rows of 64": (rows[:, :64], "Q4_K"),
    }
    refused(QuantizeError, {words: partial(ggml.quantize_ggml, *each, name="layer") for words, each in cases.items()})


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.sampled_from([32, 64])),
        elements=st.one_of(
            st.floats(-1e4, 1e4, width=32),
            st.integers(-254, 254).map(lambda n: n / 2),  # with a maximum of 127: d = 1, and exact halves to round
            st.just(0.0),
        ),
    ),
    st.booleans(),
)
def test_q8_0_equals_gguf_byte_for_byte(rows: np.ndarray, pin: bool) -> None:
    if pin:
        rows[:, ::32] = 127
    with np.errstate(all="ignore"):
        expected = gguf.quants.quantize(rows, gguf.GGMLQuantizationType.Q8_0)
    packed = ggml.q8_0_encode(torch.from_numpy(rows))
    # Blocks whose maximum is subnormal have 1 / d = inf in either code: only compare finite ones.
    peaks = np.abs(rows.reshape(-1, 32)).max(1)
    fine = (peaks == 0) | (peaks > 1e-30)
    assert np.array_equal(packed.numpy().reshape(-1, 34)[fine], expected.reshape(-1, 34)[fine])
    decoded = gguf.quants.dequantize(packed.numpy(), gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(ggml.q8_0_decode(packed).numpy(), decoded, equal_nan=True)


def test_q8_0_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.from_numpy(weights(11, 64))
    whole = ggml.q8_0_encode(rows)
    monkeypatch.setattr(ggml, "ROWS_AT_ONCE", 4)
    assert torch.equal(ggml.q8_0_encode(rows), whole)
    assert torch.equal(ggml.q8_0_decode(whole, torch.bfloat16), ggml.q8_0_decode(whole).bfloat16())
    calls = {
        "embed has values": lambda: ggml.q8_0_encode(rows * float("inf"), name="embed"),
        "blocks of 34": lambda: ggml.q8_0_decode(whole[:, 1:]),
    }
    refused(QuantizeError, calls)
