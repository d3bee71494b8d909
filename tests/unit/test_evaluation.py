"""Rows on held-out windows: against transformers in float64, the float row, the files and the refusals."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from ramp.core import cli
from ramp.evaluation.__main__ import main as evaluation_main
from ramp.evaluation.heldout import Reference, evaluate, float_head, make_reference
from ramp.scoring.kl_divergence import EvaluationError
from tests.gguf_inputs import allocation_of
from tests.model_folders import load_float
from tests.rows import row_key, write_row
from tests.sealed import read_json, write_sealed
from tests.tiny_models import edited, write_text


def write_float_row(folder, model_dir, stage: str = "float"):
    folder.mkdir()
    own = {"method": stage, "grid": stage, "stage": stage, "budget_bits": 16.0, "group_size": 0}
    meta = row_key(**own) | {"model": model_dir.name, "bytes_file": 123 if stage == "released" else 456, "note": stage}
    write_sealed(folder / "meta.json", meta)
    return folder


def run(*options) -> int:
    return cli.run(evaluation_main, [str(option) for option in options])


@pytest.fixture(scope="module")
def study(tiny_llama_dir, tmp_path_factory):
    """One text, its reference on six windows, and a 3-bit row, all through the command line."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_text(folder / "heldout.jsonl", "River stone, green house; light under paper and 7 plants. ", 100)
    reference = folder / "heldout.safetensors"
    options = ["--text", f"heldout={folder / 'heldout.jsonl'}", "--length", 64, "--windows", 6, "--out", reference]
    assert run("reference", "--model-dir", tiny_llama_dir, "--dtype", "float32", "--device", "cpu", *options) == 0
    row = folder / "rtn-b3-s0"
    write_row(row, tiny_llama_dir, "fp16", 3, wall_s=1.5, simulated=True)
    out = folder / "rtn.json"
    common = ["--model-dir", tiny_llama_dir, "--device", "cpu", "--reference", f"heldout={reference}"]
    assert run("row", "--row-dir", row, *common, "--out", out) == 0
    return folder, reference, row, out, common


def test_row_equals_whole_logits_in_float64(study, tiny_llama_dir):
    from ramp.rows.checkpoint import load_dequantized

    _, reference, row, out, _ = study
    found = read_json(out)["texts"]["heldout"]
    windows = Reference.load(reference).windows
    models = [load_float(tiny_llama_dir, torch.float64), load_dequantized(row, tiny_llama_dir, torch.float64, "cpu")]
    with torch.no_grad():
        log_p, log_q = (log_softmax(m(windows).logits[:, :-1].numpy(), axis=-1) for m in models)
    kl = rel_entr(np.exp(log_p), np.exp(log_q)).sum((1, 2))
    nll = -np.take_along_axis(log_q, windows[:, 1:, None].numpy(), axis=-1).sum((1, 2))
    assert [each["tokens"] for each in found["windows"]] == [63] * 6
    np.testing.assert_allclose([each["kl"] for each in found["windows"]], kl, rtol=1e-4)
    np.testing.assert_allclose([each["nll"] for each in found["windows"]], nll, rtol=1e-5)
    assert found["kl"] == pytest.approx(kl.sum() / (6 * 63), rel=1e-4)
    assert found["ppl"] == pytest.approx(math.exp(nll.sum() / (6 * 63)), rel=1e-5)
    assert found["kl_low"] < found["kl"] < found["kl_high"]
    assert found["ppl_low"] < found["ppl"] < found["ppl_high"]
    assert found["kl"] > 1e-3  # three bits cost something


def test_metrics_file_is_the_rows(study):
    _, _, row, out, _ = study
    found, meta = read_json(out), read_json(row / "meta.json")
    assert found["key"] == {name: meta[name] for name in found["key"]}
    assert found["sizes"]["bytes_file"] == (row / "model.safetensors").stat().st_size
    assert found["made"]["wall_s"] == 1.5
    assert found["search"] is None
    assert found["dtype"] == "float32"
    assert found["texts"]["heldout"]["length"] == 64


@pytest.mark.parametrize("fixture", ["tiny_llama_dir", "tiny_qwen2_dir"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_float_row_has_no_divergence(fixture, dtype, request):
    """Computed, not assumed: the same network through the same arithmetic, tied head or not."""
    folder = request.getfixturevalue(fixture)
    model = load_float(folder, dtype)
    windows = torch.randint(200, (5, 48), generator=torch.Generator().manual_seed(1))
    reference = make_reference(model, windows, {})
    found = evaluate(model, reference, float_head(folder, dtype, torch.device("cpu")))
    assert [each["kl"] for each in found] == [0.0] * 5
    nll = reference.nll.double().sum(1).tolist()
    assert [each["nll"] for each in found] == pytest.approx(nll, rel=1e-6)


def test_a_checkpoint_in_its_own_dtype(study, tiny_llama_dir, tmp_path):
    """A float16 checkpoint: its reference is float16's own, nothing is rounded; in bfloat16 the row's note says so."""

    def halve(state):
        state.update({name: tensor.half() for name, tensor in state.items()})

    half = edited(tiny_llama_dir, tmp_path / "half", halve, dtype="float16")
    row = write_float_row(tmp_path / "float-b16-s0", half)
    found = {}
    for dtype in ("checkpoint", "bfloat16"):
        common = ["--model-dir", half, "--device", "cpu", "--dtype", dtype, "--out"]
        reference = tmp_path / f"{dtype}.safetensors"
        text = ["--text", f"heldout={study[0] / 'heldout.jsonl'}", "--length", 48, "--windows", 2]
        assert run("reference", *common, reference, *text) == 0
        out = tmp_path / f"{dtype}.json"
        assert run("row", *common, out, "--row-dir", row, "--reference", f"heldout={reference}") == 0
        found[dtype] = read_json(out)
    made = Reference.load(tmp_path / "checkpoint.safetensors")
    assert made.about["dtype"] == found["checkpoint"]["dtype"] == "float16"
    assert torch.equal(made.hidden, make_reference(load_float(half, torch.float16), made.windows, {}).hidden)
    exact = make_reference(load_float(half, torch.float64), made.windows, {}).nll
    rounded = Reference.load(tmp_path / "bfloat16.safetensors")
    assert (made.nll - exact).abs().mean() < 0.3 * (rounded.nll - exact).abs().mean()
    assert [each["texts"]["heldout"]["kl"] for each in found.values()] == [0.0, 0.0]
    assert "rounded" not in found["checkpoint"]["note"]
    assert "stored as float16 and rounded to bfloat16" in found["bfloat16"]["note"]


def test_length_is_the_models_context_and_no_limit_takes_the_text_from_its_beginning(study, tiny_llama_dir, tmp_path):
    from ramp.models.token_windows import JOIN, read_documents
    from tests.model_folders import load_tokenizer

    text = study[0] / "heldout.jsonl"
    out = tmp_path / "reference.safetensors"
    assert run("reference", "--model-dir", tiny_llama_dir, "--text", f"heldout={text}", "--out", out) == 0
    made = Reference.load(out)
    tokens = load_tokenizer(tiny_llama_dir)(JOIN.join(d.text for d in read_documents(text)))["input_ids"]
    assert made.about["length"] == 256
    assert made.about["requested_length"] == 2048
    assert made.windows.flatten().tolist() == tokens[: len(tokens) // 256 * 256]
    assert made.hidden.shape == (len(tokens) // 256, 256, 64)


def test_float_and_released_rows_are_one_network(study, tiny_llama_dir, tmp_path):
    _, _, _, rtn, common = study
    float_row = write_float_row(tmp_path / "float-b16-s0", tiny_llama_dir)
    released = write_float_row(tmp_path / "released-b16-s0", tiny_llama_dir, "released")
    first, second = tmp_path / "float.json", tmp_path / "released.json"
    assert run("row", "--row-dir", float_row, *common, "--out", first) == 0
    assert read_json(first)["texts"]["heldout"]["kl"] == 0.0
    same = ["--row-dir", released, "--model-dir", tiny_llama_dir, "--same-as"]
    assert run("row", *same, first, "--out", second) == 0
    copied = read_json(second)
    assert copied["texts"] == read_json(first)["texts"]
    assert copied["key"]["method"] == "released"
    assert copied["sizes"] == {"bytes_file": 123}
    assert "the same network as row float" in copied["note"]
    assert run("row", *same, rtn, "--out", tmp_path / "no.json") == 2  # a quantized row is not


def test_search_costs_come_from_the_allocation(study, tiny_llama_dir, tmp_path):
    _, _, row, _, common = study
    kept = {"kl_start": 0.5, "kl_search": None, "search_evals": 7, "notes": "warm"}
    allocation = allocation_of(tiny_llama_dir, **kept).model_dump()
    (tmp_path / "a.json").write_text(json.dumps(allocation))
    assert run("row", "--row-dir", row, *common, "--allocation", tmp_path / "a.json", "--out", tmp_path / "m.json") == 0
    found = read_json(tmp_path / "m.json")
    assert found["search"].items() >= {"kind": "best", **kept}.items()
    assert "warm" in found["note"]


def test_a_row_with_the_weights_of_another_is_not_evaluated_again(study, tiny_llama_dir, tmp_path, monkeypatch):
    """Two searches that end alike: same scores, own key and cost; rows that differ in one width are evaluated."""
    _, _, row, scores, common = study
    twin = ["--twin", row / "model.safetensors", scores]
    for name, bits, method in (("same", 3, "ramp"), ("other", 4, "ramp")):
        write_row(tmp_path / name, tiny_llama_dir, "fp16", bits, method=method, budget_bits=3.0, simulated=True)
    allocation = tmp_path / "a.json"
    allocation.write_text(json.dumps(allocation_of(tiny_llama_dir, search_evals=7).model_dump()))
    out = tmp_path / "other.json"
    assert run("row", "--row-dir", tmp_path / "other", *common, *twin, "--out", out) == 0
    assert read_json(out)["texts"]["heldout"]["kl"] != read_json(scores)["texts"]["heldout"]["kl"]

    def load(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("ramp.evaluation.__main__.open_dequantized", load)
    words = ["--allocation", allocation, *twin, "--out", tmp_path / "same.json"]
    assert run("row", "--row-dir", tmp_path / "same", *common, *words) == 0
    found = read_json(tmp_path / "same.json")
    assert found["texts"] == read_json(scores)["texts"]
    assert (found["key"]["method"], found["search"]["search_evals"]) == ("ramp", 7)
    assert "the same weights as row rtn" in found["note"]


def test_what_is_not_finite_is_null_and_said(tmp_path):
    from ramp.evaluation.metrics import metrics, text_metrics

    windows = [{"window": i, "tokens": 9, "nll": 9.0, "kl": math.nan if i else 1.0} for i in range(3)]
    windows[0]["nll"] = 1e6
    made = metrics(row_key(), {"heldout": text_metrics(windows, 10)}, None)
    assert made["texts"]["heldout"]["kl"] is None
    assert made["texts"]["heldout"]["windows"][1]["kl"] is None
    assert made["texts"]["heldout"]["ppl"] is None
    assert "kl on heldout is not finite" in made["note"]
    json.dumps(made, allow_nan=False)


def test_refusals(study, tmp_path, capsys, tiny_llama_dir):
    _, reference, row, _, common = study
    shutil.copytree(tiny_llama_dir, tmp_path / "other")
    cases = {
        "pass the folder of its model": ["--model-dir", tmp_path / "other", *common[2:]],
        "nothing to evaluate on": common[:-2],
        "the name given is other": [*common[:-1], f"other={reference}"],
        "no safetensors file": [*common[:-1], f"heldout={row / 'meta.json'}"],
        "write NAME=FILE": [*common[:-1], "heldout"],
        "like with like": [*common, "--dtype", "bfloat16"],
        "no reference of the float model": [*common[:-1], "heldout=nowhere.safetensors"],
    }
    for words, options in cases.items():
        assert run("row", "--row-dir", row, "--out", tmp_path / "out.json", *options) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_a_reference_of_another_vocabulary_is_refused(tiny_llama_dir):
    model = load_float(tiny_llama_dir)
    reference = make_reference(model, torch.zeros(1, 8, dtype=torch.int64), {})
    with pytest.raises(EvaluationError, match="predicts"):
        evaluate(model, reference, torch.zeros(300, 64))
