"""llama.cpp's static mixes as rows: its bytes against libgguf's, its importance matrix, a machine without it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ramp.core.atomic_files import DamagedFile
from ramp.evaluation.__main__ import main as evaluation_main
from ramp.export import llamacpp_quantize, static_mix
from ramp.export.llamacpp import LlamaCppError
from ramp.export.llamacpp_check import transformers_nll
from ramp.export.llamacpp_quantize import quantize_apart, quantize_gguf, read_importance_file, write_importance
from ramp.export.static_mix import MixError, MixRow, make_row, type_notes
from ramp.export.write import export, read_importance
from ramp.gguf_format.names import GgufError, gguf_tensors, to_gguf_rows
from ramp.gguf_format.reader import GgufFile
from ramp.methods.kinds import MethodError, Mix
from ramp.methods.loader import discover, load_method
from ramp.models.folder import CheckpointReader
from ramp.quantizers.ggml import quantize_ggml
from ramp.records.collect import collect
from ramp.records.table import read_all
from ramp.rows.checkpoint import CheckpointError, load_dequantized
from tests.gguf_inputs import llama_nll, statistics
from tests.model_folders import read_config
from tests.refusals import refused
from tests.sealed import read_json, save_sealed, write_sealed
from tests.tiny_models import altered, random_llama

pytest.importorskip("cyllama")

BASELINES = Path(__file__).resolve().parents[2] / "baselines"
CATALOG = discover(BASELINES)
MIXES = [name for name, method in CATALOG.methods.items() if isinstance(method, Mix)]


@pytest.fixture(scope="module")
def wide_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama whose rows hold K-quants: hidden 256, intermediate 512, tied head, byte tokenizer."""
    return random_llama(tmp_path_factory.mktemp("models") / "wide", hidden_size=256, intermediate_size=512)


@pytest.fixture(scope="module")
def inputs(wide_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float GGUF file of the model and a calibration file of random, uneven mean squares."""
    folder = tmp_path_factory.mktemp("inputs")
    export(wide_dir, folder / "float.gguf")
    statistics(wide_dir, folder / "c.safetensors", power=4)
    return folder


def make(name: str, model_dir: Path, inputs: Path, out: Path, track: str = "q8_0") -> dict:
    files = (inputs / "float.gguf", inputs / "float.plan.json", inputs / "c.safetensors")
    row = MixRow(model_dir, *files, track, study="test", seed=0)
    return make_row(CATALOG.reference(name), row, out)


@pytest.mark.parametrize("name", MIXES)
def test_its_bytes_are_those_of_libgguf(name: str, wide_dir: Path, inputs: Path, tmp_path: Path) -> None:
    """Every linear, coded again by another library in the type that llama.cpp chose, with the same importance.

    That proves that llama.cpp took the matrix, and each tensor its own channels; without one it took none.
    """
    meta, config = make(name, wide_dir, inputs, tmp_path / "row"), read_config(wide_dir)
    file, reader = GgufFile(tmp_path / "row" / "model.gguf"), CheckpointReader(wide_dir)
    method = CATALOG[name]
    assert isinstance(method, Mix)
    importance = read_importance(inputs / "c.safetensors", {}, config)
    types = set()
    for tensor in gguf_tensors(config):
        if tensor.linear is None:
            continue
        values = to_gguf_rows(reader.get(tensor.source).numpy(), tensor.heads)
        kind, raw = file.type(tensor.name), file.raw(tensor.name)
        types.add(kind)
        with_matrix = quantize_ggml(values, kind, importance[tensor.name]).reshape(-1)
        without = quantize_ggml(values, kind).reshape(-1)
        assert not np.array_equal(with_matrix, without)
        np.testing.assert_array_equal(raw, with_matrix if method.importance else without)
    assert types == set(meta["types"].values())
    assert len(types) > 1  # a mix
    assert file.type("token_embd.weight") == "Q8_0"  # the study's track, not llama.cpp's choice
    assert meta["bytes_file"] == meta["bytes_native"] == (tmp_path / "row" / "model.gguf").stat().st_size
    parts = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")
    assert sum(meta[part] for part in parts) == meta["bytes_file"]
    assert (meta["grid"], meta["budget_bits"], meta["group_size"]) == ("ggml", float(method.bits), 0)


def test_the_row_loads_and_llama_cpp_agrees_on_it(wide_dir: Path, inputs: Path, tmp_path: Path) -> None:
    make("q4_k_m_imatrix", wide_dir, inputs, tmp_path / "row", track="fp16")
    assert GgufFile(tmp_path / "row" / "model.gguf").type("token_embd.weight") == "F16"
    windows = torch.randint(2, 250, (2, 48), generator=torch.Generator().manual_seed(1))
    ours = transformers_nll(load_dequantized(tmp_path / "row", wide_dir), windows)
    theirs = llama_nll(tmp_path / "row" / "model.gguf", windows)
    assert abs(theirs.mean() / ours.mean() - 1) < 0.03  # llama.cpp rounds activations to 8 bits


def test_short_rows_fall_back_and_the_note_says_so(tiny_llama_dir: Path, tmp_path: Path) -> None:
    export(tiny_llama_dir, tmp_path / "float.gguf")
    meta = make("q4_k_m", tiny_llama_dir, tmp_path, tmp_path / "row")
    assert not any("_K" in kind for kind in meta["types"].values())
    assert "no K-quants in rows of 64, not a multiple of 256" in meta["note"]
    assert set(meta["types"].values()) == {"Q5_0", "Q8_0"}  # llama.cpp's fallbacks of Q4_K and Q6_K


def test_types_that_the_released_grid_distorts_are_named(wide_dir: Path, inputs: Path, tmp_path: Path) -> None:
    model = altered(wide_dir, tmp_path / "wide")
    write_sealed(model / "asset.json", {"released_format": "Q4_1"})
    assert "Q4_K distorted" in make("q4_k_m", model, inputs, tmp_path / "r")["note"]


def test_a_table_off_the_track_is_named(wide_dir: Path, inputs: Path) -> None:
    tensors = static_mix.tensors_of(inputs / "float.gguf", read_config(wide_dir))
    assert "embedding stored as F32" in type_notes(tensors, "q8_0")


def test_the_importance_file_reads_back_as_llama_quantize_reads_it(tmp_path: Path) -> None:
    values = {"blk.0.ffn_up.weight": np.linspace(0, 3, 64, dtype=np.float32)}
    write_importance(tmp_path / "i.gguf", values, tokens=2048, length=512)
    file = gguf.GGUFReader(tmp_path / "i.gguf")
    assert file.get_field("general.type").contents() == "imatrix"
    assert file.get_field("imatrix.datasets").contents() == ["calibration"]
    assert (file.get_field("imatrix.chunk_count").contents(), file.get_field("imatrix.chunk_size").contents()) == (
        4,
        512,
    )
    shapes = {tensor.name: tensor.shape.tolist() for tensor in file.tensors}  # in ggml's order: channels first
    assert shapes == {"blk.0.ffn_up.weight.in_sum2": [64, 1], "blk.0.ffn_up.weight.counts": [1, 1]}
    back = read_importance_file(tmp_path / "i.gguf")
    np.testing.assert_allclose(back["blk.0.ffn_up.weight"], values["blk.0.ffn_up.weight"], rtol=1e-6)
    export = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(export, "llama")
    writer.add_tensor("x.in_sum2", np.ones((1, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(LlamaCppError, match="no counts of x"):
        read_importance_file(export)


def test_another_layout_of_the_parameters_is_refused(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pointer is written only where the fields around it were found."""
    monkeypatch.setattr(llamacpp_quantize, "LAYOUT", {**llamacpp_quantize.LAYOUT, "ftype": 8})
    values = {"blk.0.ffn_up.weight": np.ones(256, np.float32)}
    with pytest.raises(LlamaCppError, match="another layout"):
        quantize_gguf(inputs / "float.gguf", tmp_path / "x.gguf", "Q4_K_M", table_type="Q8_0", importance=values)
    assert not list(tmp_path.iterdir())


def test_bad_importance_and_unknown_mixes_are_refused(inputs: Path, tmp_path: Path) -> None:
    source = inputs / "float.gguf"
    quantize = partial(quantize_gguf, source, tmp_path / "x.gguf", table_type="Q8_0")
    broken = {"blk.0.ffn_up.weight": np.full(256, np.nan, np.float32)}
    short = {tensor.name: np.ones(3, np.float32) for tensor in gguf.GGUFReader(source).tensors}
    calls = {
        "ffn_up.weight": lambda: quantize("Q4_K_M", importance=broken),
        "'Q4_K_XXL'": lambda: quantize("Q4_K_XXL"),
        "cannot quantize": lambda: quantize("Q4_K_M", importance=short),
    }
    refused(LlamaCppError, calls)


def test_an_abort_of_llama_cpp_is_a_sentence(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the other process comes back as it is; a process that dies becomes an error."""
    with pytest.raises(LlamaCppError, match="'Q4_K_XXL'"):
        quantize_apart(inputs / "float.gguf", tmp_path / "x.gguf", "Q4_K_XXL", table_type="Q8_0")
    monkeypatch.setattr(llamacpp_quantize, "APART", "import os; os.abort()")
    with pytest.raises(LlamaCppError, match="aborted while quantizing"):
        quantize_apart(inputs / "float.gguf", tmp_path / "x.gguf", "Q4_K_M", table_type="Q8_0")


def test_statistics_of_another_model_are_refused(wide_dir: Path, tiny_llama_dir: Path, inputs: Path) -> None:
    with pytest.raises(GgufError, match="another model"):
        read_importance(inputs / "c.safetensors", {}, read_config(tiny_llama_dir))


def test_statistics_that_do_not_say_their_tokens_are_refused(wide_dir: Path, inputs: Path, tmp_path: Path) -> None:
    save_sealed(load_file(inputs / "c.safetensors"), tmp_path / "c.safetensors")  # without metadata
    files = (inputs / "float.gguf", inputs / "float.plan.json", tmp_path / "c.safetensors")
    row = MixRow(wide_dir, *files, "q8_0", study="test", seed=0)
    refused(
        DamagedFile,
        {"run ramp.calibration again": lambda: make_row(CATALOG.reference("q4_k_m_imatrix"), row, tmp_path)},
    )


def test_without_llama_cpp_the_row_says_why_and_the_rest_goes_on(
    wide_dir: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No scores, the reason in the note, and records that hold it."""
    monkeypatch.setattr(static_mix, "missing", lambda: "llama.cpp is not installed (pip install cyllama)")
    row = tmp_path / "quantized" / "wide" / "q4_k_m-b4-s0-ggml"
    meta = make("q4_k_m", wide_dir, inputs, row)
    assert meta["failed"] == "llama.cpp is not installed (pip install cyllama)"
    assert not (row / "model.gguf").exists()
    with pytest.raises(CheckpointError):
        load_dequantized(row, wide_dir)
    words = ["--model-dir", wide_dir, "--gguf", inputs / "float.gguf", "--plan", inputs / "float.plan.json"]
    words += ["--method-file", CATALOG.reference("q4_k_m")]
    named = tmp_path / "named"
    assert static_mix.main([*map(str, words), "--placeholder", "--study", "test", "--out", str(named)]) == 0
    assert (named / "model.gguf").read_bytes() == b""  # for the rule that names it
    assert read_json(named / "meta.json") == read_json(row / "meta.json")
    metrics = tmp_path / "metrics.json"
    assert evaluation_main(["row", "--row-dir", str(row), "--model-dir", str(wide_dir), "--out", str(metrics)]) == 0
    assert read_json(metrics)["texts"] == {}
    collect(metrics=[metrics], rows=[row / "meta.json"], models=[wide_dir], out=tmp_path / "records")
    [line] = read_all(tmp_path / "records")["records"].to_dict("records")
    assert line["note"] == "not run: llama.cpp is not installed (pip install cyllama)"
    assert (line["method"], line["grid"]) == ("q4_k_m", "ggml")


def test_a_method_that_is_no_mix_is_refused(wide_dir: Path, inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(MixError, match="Quantizer"):
        make("rtn", wide_dir, inputs, tmp_path / "row")
    text = (BASELINES / "q4_k_m.py").read_text()
    (tmp_path / "q4_k_m.py").write_text(text.replace('"Q4_K_M"', '"four"'))
    with pytest.raises(MethodError, match="'four'"):
        load_method(tmp_path / "q4_k_m.py")


def test_a_damaged_float_file_is_refused_and_leaves_no_row(wide_dir: Path, inputs: Path, tmp_path: Path) -> None:
    damaged = bytearray((inputs / "float.gguf").read_bytes())
    damaged[-40] ^= 1
    (tmp_path / "float.gguf").write_bytes(damaged)
    row = MixRow(wide_dir, tmp_path / "float.gguf", inputs / "float.plan.json", None, "q8_0", study="test", seed=0)
    refused(GgufError, {"not what its plan says": lambda: make_row(CATALOG.reference("q4_k_m"), row, tmp_path / "row")})
    assert not (tmp_path / "row").exists()
