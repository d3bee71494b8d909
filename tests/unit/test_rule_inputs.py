"""Inputs and parameters of the rules, without Snakemake: files by their wildcards, options, records as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.comparison_files import ComparisonFiles
from ramp.core.atomic_files import write_json
from ramp.study.record_files import RecordFiles
from ramp.study.row_names import Row
from ramp.study.temporary_files import passes
from tests.plans import files_of, plan_of, values_of

S = "tiny-llama-s"


def test_files_behind_a_method_and_a_variant() -> None:
    plan = plan_of("league.yaml")
    files = files_of(plan)
    assert plan.bank_of("ramp") == plan.bank_of("ramp_paper_no_cliff") == plan.league.bank() == "awq-gptq"
    assert plan.sensitivities_of("knapsack_kl") == "awq-gptq-kl.json"
    assert plan.league.fold() == "awq"
    assert files.method("knapsack_kl") == ["baselines/knapsack.py"]
    assert files.method("ramp_paper_no_cliff") == ["baselines/ramp_paper.py"]
    assert files.method("float") == []
    stage = files.stage("ramp/search/__main__.py", "knapsack_kl")
    assert {"ramp/search/__main__.py", "baselines/knapsack.py", "ramp/allocators/knapsack.py"} <= set(stage)
    assert "ramp/rl/sac_discrete.py" not in stage


@pytest.mark.parametrize(
    ("row", "weights"),
    [
        ("float-b16-s0", []),
        ("rtn-b4-s0", ["quantized/tiny-llama-s/rtn-b4-s0/model.safetensors"]),
        ("ramp-b3.65-s0", ["quantized/tiny-llama-s/ramp-b3.65-s0/model.safetensors"]),
        ("ramp-b3.65-s0-fp16", ["quantized/tiny-llama-s/ramp-b3.65-s0-fp16/model.safetensors"]),
        ("ramp-b3.65-s0-ggml", ["halo/tiny-llama-s/ramp-b3.65-s0.gguf"]),
        ("q4_k_m_imatrix-b4-s0-ggml", []),
        ("autoround-b4-s0", []),
    ],
)
def test_weights_that_a_rule_promises(row: str, weights: list[str]) -> None:
    assert files_of(plan_of("smoke.yaml")).weights(S, row) == [f"results/smoke/{file}" for file in weights]


@pytest.mark.parametrize(
    ("row", "weights"),
    [
        ("q4_k_m_imatrix-b4-s0-ggml", ["quantized/tiny-llama-s/q4_k_m_imatrix-b4-s0-ggml/model.gguf"]),
        ("autoround-b4-s0", ["quantized/tiny-llama-s/autoround-b4-s0/model.safetensors"]),
        ("ramp-b3.65-s0-ggml", ["halo/tiny-llama-s/ramp-b3.65-s0.gguf"]),
        ("float-b16-s0", []),
    ],
)
def test_weights_of_packages_and_mixes_are_read_by_name_where_they_pass(row: str, weights: list[str]) -> None:
    """Else nothing would ever delete them."""
    found = files_of(plan_of("smoke.yaml", keep="results")).weights(S, row)
    assert found == [f"results/smoke/{file}" for file in weights]
    assert all(passes(file) for file in weights if file.startswith("quantized"))


def test_products_are_what_a_user_keeps() -> None:
    products = files_of(plan_of("smoke.yaml")).products()
    assert "results/smoke/quantized/tiny-mistral/awq_gptq-b4-s0/model.safetensors" in products
    assert {file for file in products if file.endswith(".gguf")} == {
        "results/smoke/halo/tiny-llama-s/float-b16-s0.gguf",
        "results/smoke/halo/tiny-llama-s/ramp-b3.65-s0.gguf",
    }
    assert not [file for file in products if "float" in file and "quantized" in file]
    for part in (
        "awq_gptq-b4-s0-tuned/meta.json",
        "draw1/knapsack-b3.65-s0/model.safetensors",
        "ramp-b3.65-s0.check.json",
    ):
        assert [file for file in products if file.endswith(part)], part
    smoke = yaml.safe_load((Path(__file__).parents[2] / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    taken = {name: {**smoke[name], "partial": True} for name in ("banks", "tuning")}
    partial = files_of(plan_of("smoke.yaml", **taken)).products()
    assert not [file for file in partial if "-tuned" in file or ".draw" in file]
    waiting = files_of(plan_of("config.yaml")).products()
    assert not [file for file in waiting if "-tuned" in file or ".draw" in file]
    assert files_of(plan_of("smoke.yaml", records="published")).products() == []
    kept = files_of(plan_of("smoke.yaml", keep="results")).products()
    assert kept == [
        f"results/smoke/halo/tiny-llama-s/ramp-b3.65-s0.{end}" for end in ("gguf", "plan.json", "types.txt", "card.md")
    ]


def test_a_pattern_is_filled_for_every_row() -> None:
    pattern = "{model}/{row}/{method}/{budget}/{seed}"
    rows = [Row("m", "ramp", "3.65", 1), Row("m", "ramp", "4", 0, "ggml")]
    found = files_of(plan_of("smoke.yaml")).of_rows(pattern, rows)
    assert found == ["results/smoke/m/ramp-b3.65-s1/ramp/3.65/1", "results/smoke/m/ramp-b4-s0-ggml/ramp/4/0"]


def test_values_of_the_source_and_of_the_targets() -> None:
    values = values_of(plan_of("config.yaml"))
    assert values.of_model("smollm2-135m", 8, 4) == values.of_model("qwen2.5-coder-0.5b", 8, None) == 8
    assert values.of_model("qwen2.5-coder-0.5b", 8, 4) == 4


def test_folds_of_one_width_come_from_the_search_of_the_shared_one() -> None:
    values = values_of(plan_of("config.yaml"))
    files, model, state = values.files, "qwen2.5-coder-0.5b", "results/.state/folds/qwen2.5-coder-0.5b"
    assert files.shared_fold(model, "awq_w4") == [f"results/folds/{model}/awq.safetensors"]
    also = [f"{bits}={state}/awq_w{bits}.safetensors" for bits in (3, 4)]
    assert values.folds_together(model, "awq") == ["--also", *also]  # of widths without a row too: it never changes
    assert values.folds_together(model, "awq_w4") == ["--made", f"{state}/awq_w4.safetensors"]
    assert len(values.folds_together("smollm2-135m", "awq")) == 3
    for fold in ("awq", "awq_w8", "awq_w3", "none"):  # no row of this model has awq_w3
        assert files.shared_fold(model, fold) == []
    assert values.folds_together(model, "none") == values.folds_together(model, "awq_w3") == []


def test_options_of_rows() -> None:
    values = values_of(plan_of("smoke.yaml", params={"awq_gptq": {"damping": 0.02}}))
    assert values.widths("awq_gptq", "4") == ["--bits", "4", "--params", '{"damping": 0.02}']
    assert values.widths("ramp", "3.65") == values.widths("ramp_transfer", "3.65") == []
    assert values.fold_options("none") == ["--kind", "none"]
    assert values.fold_options("awq_w4")[:4] == ["--kind", "awq", "--bits", "4"]
    heldout = "results/smoke/reference/tiny-llama-s/heldout.safetensors"
    assert values.measured_on(S, "rtn-b4-s0") == ["--reference", f"heldout={heldout}"]
    assert values.measured_on(S, "released-b16-s0") == ["--same-as", f"results/smoke/metrics/{S}/float-b16-s0.json"]
    assert values.agreement("float-b16-s0") < values.agreement("ramp-b3.65-s0")
    vars(values.plan)["unable"] = {"ramp_transfer": "no GPU", "rtn": "no GPU"}
    for method, kind in (("ramp_transfer", "not run"), ("rtn", "uniform")):
        assert ["--kind", kind, "--reason", "no GPU"] == values.skipped(method, "4")[-4:]
    assert json.loads(values.whole())["study"] == "smoke"


def test_options_of_the_league_and_of_the_folds_ablation() -> None:
    values = values_of(plan_of("smoke.yaml", variants={"cold": {"method": "ramp", "title": "RAMP, it's cold"}}))
    search = "--search-windows 8 --search-length 64 --selection-windows 12 --checkpoints 6 12"
    reading = "--heldout-windows 4 --heldout-length 128 --curve-points 4"
    assert " ".join(values.league_run(S, "ramp", "3.65", "12", "0")) == f"{search} {reading}"
    assert (values.title("ramp"), values.title("cold")) == ([], ["--title", "RAMP, it's cold"])
    assert values.fold_run("float") == ["--method-file", "float"]
    words = ["--method-file", "baselines/rtn.py", "--params", "{}", "--method-name", "rtn"]
    assert values.fold_run("rtn") == words
    assert values_of(plan_of("config.yaml", depth="full")).reference("gptq_g32") == "baselines/gptq.py:gptq_g32"


def records(tmp_path: Path, *asked: str, **change: object) -> RecordFiles:
    study = plan_of("smoke.yaml", **change).study
    return RecordFiles(study, str(tmp_path), str(tmp_path / "published"), lambda: set(asked))


def test_drawings_take_the_records_as_they_are(tmp_path: Path) -> None:
    assert records(tmp_path, "figures").table("records.csv") == (f"{tmp_path}/records.csv", False)
    (tmp_path / "claims.json").write_text("[]")
    for asked in (("figures",), ("paper", "results/smoke/paper/tables")):
        assert all(as_it_is for _, as_it_is in records(tmp_path, *asked).tables())
    for asked in ((), ("all",), ("figures", "records")):
        assert not records(tmp_path, *asked).draws_only


def test_tables_of_sections_are_made_and_others_taken_where_they_are(tmp_path: Path) -> None:
    made = records(tmp_path)
    assert (f"{tmp_path}/league.csv", False) in made.tables()
    assert f"{tmp_path}/league.csv" in made.kept
    without = records(tmp_path, league=None)
    assert "league.csv" not in str(without.tables()) + str(without.kept)
    for name in ("league", "parity"):
        (tmp_path / f"{name}.csv").write_text("x\n")
    taken = records(tmp_path, league=None).tables()
    assert {(f"{tmp_path}/league.csv", True), (f"{tmp_path}/parity.csv", True)} <= set(taken)
    assert (f"{tmp_path}/parity.csv", False) in records(tmp_path, "parity").tables()


def test_a_study_is_compared_with_what_is_published_of_it(tmp_path: Path) -> None:
    """Its records where they are published, else its digests alone; never another study's."""
    published = tmp_path / "published"
    assert records(tmp_path).comparison == []
    write_json(published / "config.json", {"study": "embedded"})
    write_json(published / "digests.json", {"embedded": {}})
    (published / "records.csv").write_text("x\n")
    assert records(tmp_path).compared == []
    write_json(published / "digests.json", {"embedded": {}, "smoke": {}})
    assert records(tmp_path).compared == [f"{published}/digests.json"]
    write_json(published / "config.json", {"study": "smoke"})
    assert records(tmp_path).compared == [f"{published}/records.csv", f"{published}/digests.json"]
    assert records(tmp_path).comparison == ["results/smoke/compare.md"]
    assert records(tmp_path, records="published").comparison == []
    for asked in ((), ("all",), ("compare",)):
        assert records(tmp_path, *asked).comparison_asked()
    assert not records(tmp_path, "figures").comparison_asked()


def test_published_records_may_be_older_than_digests(tmp_path: Path) -> None:
    digests = f"{tmp_path}/digests.json"
    assert digests in records(tmp_path).kept
    assert digests not in records(tmp_path, records="published").kept
    write_json(tmp_path / "digests.json", {})
    assert digests in records(tmp_path, records="published").kept


def test_a_comparison_names_its_inputs_and_its_command() -> None:
    compared = ComparisonFiles(files_of(plan_of("config.yaml")))
    assert compared.texts("parity_gptq") == ["results/texts/calibration.jsonl", "results/texts/heldout.jsonl"]
    assert compared.environment("parity_gptq") == [".envs/gptqmodel/environment.json"]
    assert compared.package("memory") == compared.environment("memory") == compared.model("memory") == []
    assert compared.command("parity_gptq")[-2:] == ["--reference-python", ".envs/gptqmodel/bin/python"]
    assert (compared.threads("memory"), compared.threads("parity_gptq")) == (1024, 1)
    assert len(compared.of_table("parity")) == 3
