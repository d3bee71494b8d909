"""A GGUF file as a row of the study: its folder, its note, and the card that a hub reads."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ramp.core.errors import RampError
from ramp.evaluation.metrics_file import MetricsFile
from ramp.export.halo_card import halo_card
from ramp.export.row import row_note, write_row
from ramp.export.write import export
from ramp.gguf_format.names import GgufError
from ramp.models.architecture import list_linears
from ramp.models.asset_file import ModelAsset
from ramp.rows.meta_file import KEY, gguf_of
from tests.gguf_inputs import allocation_of, statistics
from tests.model_folders import read_config
from tests.refusals import refused
from tests.sealed import read_json

WIDTHS = (3, 4, 5, 6, 8, 2)


def test_row_folder(tiny_llama_dir: Path, tmp_path: Path) -> None:
    allocation = allocation_of(tiny_llama_dir, WIDTHS)
    calibration, path = statistics(tiny_llama_dir, tmp_path / "c.safetensors"), tmp_path / "halo" / "row.gguf"
    plan = export(tiny_llama_dir, path, allocation, calibration)
    out = tmp_path / "quantized" / "tiny" / "row"
    meta = write_row(path, plan, tiny_llama_dir, allocation.model_dump(), "smoke", out)
    assert read_json(out / "meta.json") == meta
    assert (meta["grid"], meta["stage"], meta["study"], meta["budget_bits"]) == ("ggml", "final", "smoke", 4.5)
    assert (out / meta["gguf"]).resolve() == path.resolve()
    assert meta["bytes_file"] == path.stat().st_size
    linears = list_linears(read_config(tiny_llama_dir))
    widths = {"Q4_0": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8}
    params = sum(linear.params for linear in linears)
    assert meta["bits_nominal"] == sum(widths[meta["types"][x.name]] * x.params for x in linears) / params
    assert meta["bpw_linear"] == 8 * meta["bytes_linear"] / params
    assert "Q3_K -> Q4_0 (rows of 64 are not multiples of 256)" in meta["note"]
    whole = path.read_bytes()
    for damaged, said in (
        (whole + b"x", "its plan says"),
        (whole[:-40] + b"~~" + whole[-38:], "not what its plan says"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(GgufError, match=said):
            write_row(path, plan, tiny_llama_dir, allocation.model_dump(), "smoke", out)


def test_a_row_names_a_gguf_file_of_its_own_study(tmp_path: Path) -> None:
    row = tmp_path / "R" / "quantized" / "m" / "row"
    assert gguf_of(row, "model.gguf") == row / "model.gguf"
    beside = tmp_path / "R" / "halo" / "m" / "row.gguf"
    assert os.path.normpath(gguf_of(row, "../../../halo/m/row.gguf")) == str(beside)
    for name in ("../../../../x.gguf", "/etc/passwd", "a/../../x.gguf", "../../..", "", "a//b"):
        with pytest.raises(RampError, match="names the file"):
            gguf_of(row, name)


def test_a_hub_reads_the_scores_of_the_card(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """As evaluation results of the row that the file is; numbers without a value are left out."""
    from huggingface_hub import ModelCard

    plan = replace(export(tiny_llama_dir, tmp_path / "x.gguf"), model="m")
    window = {"tokens": 511, "nll": 2.0, "kl": 0.1}
    text = {
        "length": 512,
        "windows": [window] * 12,
        "kl": 0.0012345678,
        "kl_low": 0.001,
        "kl_high": None,
        "ppl": None,
    }
    metrics: dict[str, Any] = {
        "key": dict.fromkeys(KEY, "x") | {"grid": "ggml", "model": "m", "method": "ramp", "budget_bits": 3.65},
        "sizes": {"bytes_file": 1000, "bpw_file": 4.5},
        "texts": {"heldout": text | dict.fromkeys(("ppl", "ppl_low", "ppl_high"))},
        "commit": "abc",
        "simulated": False,
        "note": "",
        "versions": {},
    }
    metrics["key"] |= {"group_size": 0, "seed": 0}
    (tmp_path / "x.card.md").write_text(
        halo_card(plan, MetricsFile(**metrics), ModelAsset(kind="hub", source="owner/name"))
    )
    card = ModelCard.load(tmp_path / "x.card.md")
    (result,) = card.data.eval_results  # type: ignore[misc]
    assert (result.metric_type, result.metric_value) == ("kl-divergence", 0.00123457)
    assert result.metric_config == "12 windows of 512 tokens"
    assert card.data.base_model == "owner/name"
    few = metrics | {"texts": {"heldout": metrics["texts"]["heldout"] | {"windows": [window, window]}}}
    (tmp_path / "few.card.md").write_text(
        halo_card(plan, MetricsFile(**few), ModelAsset(kind="hub", source="owner/name"))
    )
    assert ModelCard.load(tmp_path / "few.card.md").data.eval_results is None
    assert "Not evidence" in (tmp_path / "few.card.md").read_text()
    assert "Not evidence" not in (tmp_path / "x.card.md").read_text()
    other = metrics | {"key": metrics["key"] | {"grid": "affine"}}
    refused(RampError, {"grid affine": lambda: halo_card(plan, MetricsFile(**other), ModelAsset())})


def test_row_note_names_distorted_types(tiny_llama_dir: Path, tmp_path: Path) -> None:
    plan = export(tiny_llama_dir, tmp_path / "float.gguf")
    linear = next(tensor for tensor in plan.tensors if tensor.kind == "linear")
    plan = replace(plan, tensors=[replace(linear, type=kind) for kind in ("Q4_0", "Q5_1")])
    assert "Q5_1 distorted: the checkpoint was released in Q4_1" in row_note(plan, "Q4_1")
    assert "distorted" not in row_note(plan, None)
