"""The ggml grid against code that is not ours: gguf's numpy quantizers and the pinned llama.cpp itself."""

from __future__ import annotations

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

from ramp.export.llamacpp_quantize import quantize_gguf
from ramp.export.write import export
from ramp.models.folder import CheckpointReader
from ramp.quantizers import ggml
from ramp.quantizers.affine import QuantizeError
from tests.refusals import refused
from tests.tiny_models import random_llama


def dequantize(packed: np.ndarray, name: str) -> np.ndarray:
    return gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name])


def bits_per_weight(name: str) -> float:
    count, size = ggml.BLOCKS[name]
    return 8 * size / count


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32) * 0.05


MIXES = {
    "Q2_K": "Q2_K", "Q3_K": "Q3_K_S", "Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S", "Q6_K": "Q6_K", "IQ4_XS": "IQ4_XS",
    "IQ3_S": "IQ3_S",
}  # fmt: skip
"""llama.cpp's mixes that give a plain attention query the type."""


@pytest.mark.parametrize(("hidden", "inter"), [(64, 48), (256, 96)])
def test_types_and_bytes_of_the_pinned_llama_cpp(tmp_path: Path, hidden: int, inter: int) -> None:
    """llama.cpp quantizes a small model to every K-quant: its fallback types, and its bytes, are ours.

    Rows of 64 fall back to 32-blocks, rows of 48 to F16, rows of 96 to 32-blocks, rows of 256 stay K-quants.
    """
    pytest.importorskip("cyllama")
    shape = {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    folder = random_llama(tmp_path / "model", hidden_size=hidden, intermediate_size=inter, **shape)
    export(folder, tmp_path / "float.gguf")
    names = {"attn_v": "self_attn.v_proj", "ffn_gate": "mlp.gate_proj", "ffn_down": "mlp.down_proj"}
    for asked, mix in MIXES.items():
        quantize_gguf(tmp_path / "float.gguf", tmp_path / "mix.gguf", mix, table_type="Q8_0")
        tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "mix.gguf").tensors}
        for name, source in names.items():
            rows = CheckpointReader(folder).get(f"model.layers.0.{source}.weight").numpy()
            tensor, ours = tensors[f"blk.0.{name}.weight"], ggml.fallback_type(asked, rows.shape[1])
            if name == "ffn_gate":
                assert tensor.tensor_type.name == ours, (asked, name)
            else:  # the mixes give these roles another type than the one asked for: only F16 is certain
                assert (tensor.tensor_type.name == "F16") == (ours == "F16")
            packed = ggml.quantize_ggml(rows, tensor.tensor_type.name)
            assert np.asarray(tensor.data).view(np.uint8).tobytes() == packed.tobytes(), (asked, name)
            assert tensor.n_bytes == rows.shape[0] * ggml.row_bytes(tensor.tensor_type.name, rows.shape[1])


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
