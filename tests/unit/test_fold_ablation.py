"""The folds' ablation from its rows to the claim: the stage against plain torch, the plan, the tables, the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paper.claims import CLAIMS_FILE, judge, read_claims_file
from paper.foldings import Foldings
from paper.measures import folded_against_plain
from paper.study import Study
from paper.tables.foldings import foldings_ratios_table, foldings_table
from paper.tables.render import to_latex, to_markdown
from ramp.calibration import fold_search as fold_stage
from ramp.calibration.folding import folded_float_model, load_fold
from ramp.core.errors import RampError
from ramp.evaluation.__main__ import main as evaluation_main
from ramp.evaluation.heldout import Reference
from ramp.league import fold_ablation as fold_run
from ramp.models.architecture import list_linears
from ramp.quantizers.affine import quantize_rtn
from ramp.records.collect_folding import main as collect_main
from ramp.records.table import write_table
from ramp.search.journal import ROOT
from tests.model_folders import load_float, read_config
from tests.plans import plan_of
from tests.sealed import read_json, write_sealed
from tests.synthetic_records import SOURCE, write_records
from tests.tiny_models import write_text

GROUPS, TOKENS, LENGTH = 32, 192, 48
FOLDS = {
    "none": ["--kind", "none"],
    "sq25": ["--kind", "smoothquant", "--alpha", "0.25"],
    "sq50": ["--kind", "smoothquant", "--alpha", "0.5"],
    "sq75": ["--kind", "smoothquant", "--alpha", "0.75"],
    "awq_norms": ["--kind", "awq", "--bits", "3", "--sites", "attn_in", "mlp_in"],
    "awq_w3": ["--kind", "awq", "--bits", "3"],
}


@pytest.fixture(scope="module")
def made(peaked_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folds, the float reference, and one row of RTN, GPTQ and float at 3 bits for each fold."""
    folder = tmp_path_factory.mktemp("folds")
    for name, words in (("c", "A heron stood in the shallows, and waited. "), ("h", "Rain fell on the mill pond. ")):
        write_text(folder / f"{name}.jsonl", words)
    text = ["--model-dir", str(peaked_llama_dir), "--text", str(folder / "c.jsonl"), "--tokens", str(TOKENS)]
    text += ["--length", str(LENGTH)]
    reference = folder / "reference.safetensors"
    asked = ["--text", f"heldout={folder / 'h.jsonl'}", "--length", str(LENGTH), "--windows", "3", "--dtype", "float32"]
    evaluation_main(["reference", *text[:2], *asked, "--out", str(reference)])
    for name, options in FOLDS.items():
        fold = folder / f"{name}.safetensors"
        fold_stage.main([*text, *options, "--group-size", str(GROUPS), "--out", str(fold)])
        for method in ("rtn", "gptq", "float"):
            if (name, method) != ("none", "float"):
                named = method if method == "float" else str(Path(ROOT) / "baselines" / f"{method}.py")
                arguments = [*text, "--fold", str(fold), "--name", name.removesuffix("_w3"), "--method-file", named]
                arguments += ["--bits", "3", "--group-size", str(GROUPS), "--reference", str(reference)]
                assert fold_run.main([*arguments, "--out", str(folder / name / f"{method}.json")]) == 0
    return folder


def row(folder: Path, fold: str, method: str) -> dict[str, Any]:
    return read_json(folder / fold / f"{method}.json")


@pytest.mark.parametrize("fold", [name for name in FOLDS if name != "none"])
def test_the_fold_alone_changes_nothing_and_changes_what_is_rounded(made: Path, fold: str) -> None:
    alone = row(made, fold, "float")
    assert abs(alone["text"]["kl"]) < 1e-6
    assert (alone["bits"], alone["method"], alone["bytes_linear"]) == (16, "float", None)
    for method in ("rtn", "gptq"):
        folded, plain = row(made, fold, method), row(made, "none", method)
        assert folded["bytes_linear"] == plain["bytes_linear"]
        assert folded["text"]["kl"] > 1e-3
        assert abs(folded["text"]["kl"] - plain["text"]["kl"]) > 1e-4


@pytest.mark.parametrize("fold", ["none", "sq75", "awq_w3"])
def test_a_row_is_the_folded_model_rounded(made: Path, peaked_llama_dir: Path, fold: str) -> None:
    """Against a plain forward pass: fold, round every linear, softmax in float64. The stored embedding is Q8_0."""
    scales = load_fold(made / f"{fold}.safetensors", read_config(peaked_llama_dir))
    model, exact = folded_float_model(peaked_llama_dir, scales), load_float(peaked_llama_dir)
    for linear in list_linears(read_config(peaked_llama_dir)):
        module = model.get_submodule(linear.name)
        module.weight.data = quantize_rtn(module.weight, 3, GROUPS).dequantize(torch.float32)
    windows = Reference.load(made / "reference.safetensors").windows
    with torch.no_grad():
        log_p, log_q = (one(windows).logits[:, :-1].double().log_softmax(-1) for one in (exact, model))
    kl = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
    assert row(made, fold, "rtn")["text"]["kl"] == pytest.approx(kl, rel=0.05)


def test_the_file_says_what_the_fold_is(made: Path) -> None:
    searched, plain = row(made, "awq_w3", "gptq"), row(made, "sq25", "gptq")
    assert (searched["fold"], searched["file"], searched["kind"]) == ("awq", "awq_w3", "awq")
    assert searched["sites"] == "attn_in down_in mlp_in o_in"
    assert 0 < searched["error_ratio"] < 1
    assert (plain["kind"], plain["alpha"], plain["sites"]) == ("smoothquant", 0.25, "attn_in mlp_in")
    assert plain["error_ratio"] is None
    assert not list(made.glob("*/.*"))  # the packed rows are gone


def test_an_allocator_is_no_row_of_it(made: Path, peaked_llama_dir: Path, tmp_path: Path) -> None:
    arguments = ["--model-dir", str(peaked_llama_dir), "--text", str(made / "c.jsonl"), "--fold"]
    arguments += [str(made / "none.safetensors"), "--reference", str(made / "reference.safetensors"), "--out"]
    arguments += [str(tmp_path / "x.json"), "--method-file", str(Path(ROOT) / "baselines" / "knapsack.py")]
    with pytest.raises(RampError, match="'knapsack'"):
        fold_run.main(arguments)


def test_collected_rows_become_a_table(made: Path, tmp_path: Path) -> None:
    records = write_records(tmp_path / "records")
    collect_main(["--runs", *map(str, sorted(made.glob("*/*.json"))), "--out", str(records)])
    foldings = Foldings(Study.read(records))
    assert len(foldings.rows) == 3 * len(FOLDS) - 1
    titles = [each.fold_title for each in foldings.quantized()[:6]]
    assert titles == [
        "none", "SmoothQuant, α = 0.25", "SmoothQuant, α = 0.5", "SmoothQuant, α = 0.75", "AWQ search, norms alone",
        "AWQ search",
    ]  # fmt: skip
    one = next(each for each in foldings.quantized() if each.line["fold"] == "sq50" and each.line["method"] == "gptq")
    plain = foldings.plain(one)
    assert plain is not None
    kl = one.against(plain)[0]
    assert kl is not None
    expected = row(made, "sq50", "gptq")["text"]["kl"] / row(made, "none", "gptq")["text"]["kl"]
    assert kl.value == pytest.approx(expected)
    table = foldings_table(Study.read(records))
    assert len(table.rows) == 12
    assert "3 windows of 48 tokens" in table.title
    assert r"$\alpha$ = 0.25" in to_latex(table)
    assert "| SmoothQuant, α = 0.25 |" in to_markdown(table)
    printed = foldings_ratios_table(Study.read(records))
    assert len(printed.rows) == 12
    assert not {"ppl", "alone"} & {column.key for column in printed.columns}
    assert {"fold", "kl_ratio", "ppl_ratio"} <= {column.key for column in printed.columns}


def ablation(helps: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Records of four folds by what each does to the loss of RTN at 3 and 4 bits."""
    tables: dict[str, list[dict[str, Any]]] = {"folding": [], "folding_windows": []}
    kinds = {"none": ("none", None), "sq25": ("smoothquant", 0.25), "sq50": ("smoothquant", 0.5), "awq": ("awq", None)}
    for bits in (3, 4):
        for fold, factor in helps.items():
            name = {"model": SOURCE, "method": "rtn", "bits": bits, "group_size": 64, "file": fold}
            kl = factor * np.linspace(1, 2, 8) / bits
            about = {"fold": fold, "kind": kinds[fold][0], "alpha": kinds[fold][1], "kl": float(kl.mean())}
            tables["folding"].append({**name, **about, "n_windows": 8, "length": 101})
            for window, value in enumerate(kl):
                line = {"window": window, "tokens": 100, "kl": 100 * value, "nll": 100 * (3 + value)}
                tables["folding_windows"].append({**name, **line})
    return tables


def judged(folder: Path, helps: dict[str, float]) -> dict[str, Any]:
    for name, rows in ablation(helps).items():
        write_table(folder / f"{name}.csv", rows)
    study = Study.read(folder)
    claim = next(one for one in read_claims_file(CLAIMS_FILE) if one["id"] == "C6")
    return judge(study, claim)


def test_the_claim_reads_the_search_and_one_alpha_below_four_bits(tmp_path: Path) -> None:
    """SmoothQuant at another alpha is shown and does not decide."""
    folder = write_records(tmp_path / "records")
    good = judged(folder, {"none": 1.0, "sq25": 3.0, "sq50": 0.8, "awq": 0.5})
    assert good["verdict"] == "replicated"
    assert f"{SOURCE}/rtn-b3 on awq (folds' ablation)" in good["rows"]
    assert not any("sq25" in name or "rtn-b4 on" in name for name in good["rows"])
    harmful = judged(folder, {"none": 1.0, "sq25": 0.5, "sq50": 1.4, "awq": 0.5})
    assert harmful["verdict"] == "partly"
    assert "SmoothQuant, α = 0.5 to no fold" in harmful["measure"]
    params = {"pairs": [], "kinds": ["smoothquant"], "alpha": 0.25}
    [found] = folded_against_plain(Study.read(folder), **params)
    assert found.estimate.value == pytest.approx(np.exp(-0.5 * 1.5 / 3))


def test_rows_on_unlike_text_and_no_rows_are_refused(made: Path, tmp_path: Path) -> None:
    odd = row(made, "none", "rtn")
    odd["text"]["windows"] = odd["text"]["windows"][:1]
    write_sealed(tmp_path / "odd.json", odd)
    runs = [str(made / "sq25" / "rtn.json"), str(tmp_path / "odd.json")]
    for words, some in (("differ in held-out windows", runs), ("no run to collect", [])):
        with pytest.raises(RampError, match=words):
            collect_main(["--runs", *some, "--out", str(tmp_path)])
    assert not list(tmp_path.glob("*.csv"))


def test_the_plan_pairs_every_quantizer_with_every_fold() -> None:
    """AWQ searches at each row's own width; the float model stands once for every fold file."""
    plan = plan_of("league.yaml").folds
    plan.check()
    here = plan.section
    one = [run for run in plan.runs if run.model == "smollm2-135m"]
    rows = [run for run in one if run.method != "float"]
    assert len(rows) == len(here.folds) * len(here.methods) * len(here.bits) == 24
    assert {run.file for run in one if run.fold == "awq"} == {"awq_w3", "awq_w4"}
    assert sorted(run.file for run in one if run.method == "float") == [
        "awq_norms_w3", "awq_norms_w4", "awq_w3", "awq_w4", "sq25", "sq50", "sq75",
    ]  # fmt: skip
    assert plan.fold_of("awq_norms_w3") == "awq_norms"
    alphas = {settings.alpha for settings in plan.plan.study.folds.values() if settings.kind == "smoothquant"}
    assert alphas == {0.25, 0.5, 0.75}
    settings = plan_of("league.yaml").fold_settings("awq_norms_w3")
    assert settings is not None
    assert settings.options()[:3] == ["--kind", "awq", "--bits"]
