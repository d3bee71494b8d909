"""Rows over banks: draws are models by name that share checkpoint and reference; their rows, and the table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ramp.core.atomic_files import write_json
from ramp.records.collect_banks import main as collect_main
from ramp.records.table import RecordsError, read_table
from ramp.study.draws import drawn, split_draw
from ramp.study.planned_rows import Plan
from ramp.study.row_names import PlanError
from ramp.study.validation import ConfigError
from tests.plans import files_of, plan_of, values_of
from tests.refusals import refused
from tests.rows import row_key

S = "tiny-llama-s"
SECTION = {
    "models": [S], "draws": [0, 2], "methods": ["knapsack", "random_search"], "budgets": [3.65], "seeds": [0, 1],
    "uniform": ["awq_gptq-b4"], "same_allocation": ["knapsack-b3.65"],
}  # fmt: skip


OPTIMUM = {"models": [f"{S}.draw2"], "methods": ["knapsack"], "budgets": [4], "widths": [3, 4], "count": 2}


def smoke(**change: Any) -> Plan:
    return plan_of("smoke.yaml", banks={**SECTION, **change})


def test_names_of_draws() -> None:
    assert [drawn("m-1.7b", draw) for draw in (0, 3)] == ["m-1.7b", "m-1.7b.draw3"]
    assert [split_draw(name) for name in ("m-1.7b", "m-1.7b.draw3", "m.draw0")] == [
        ("m-1.7b", 0),
        ("m-1.7b", 3),
        ("m.draw0", 0),
    ]


def test_every_bank_has_the_same_rows_and_one_of_the_first_banks_allocation(tmp_path, monkeypatch) -> None:
    plan = smoke().banks
    files = [plan.file(row).removeprefix("results/smoke/metrics/") for row in plan.rows]
    own = ["knapsack-b3.65-s0", "random_search-b3.65-s0", "random_search-b3.65-s1", "awq_gptq-b4-s0"]
    assert files == [f"{S}/{name}.json" for name in own] + [
        f"{S}.draw2/{name}.json" for name in [*own, "knapsack-b3.65-s0-draw0"]
    ]
    assert [(row.bank, row.allocation_bank) for row in plan.rows] == 4 * [(0, 0)] + 4 * [(2, 2)] + [(2, 0)]
    assert not [taken for _, taken in plan.files() if taken]
    partial = smoke(partial=True).banks
    monkeypatch.chdir(tmp_path)  # where there are no results
    assert partial.files() == []


def test_a_draw_shares_what_no_calibration_changes() -> None:
    plan = smoke()
    files, values, draw = files_of(plan), values_of(plan), f"{S}.draw2"
    assert draw in plan.all_models
    assert draw not in plan.base_models
    assert files.checkpoint(draw) == f"results/smoke/models/{S}/asset.json"
    assert files.references(draw) == [f"results/smoke/reference/{S}/heldout.safetensors"]
    own = "results/smoke/allocations/tiny-llama-s{}/knapsack/3.65/0.json"
    assert files.row_allocation(draw, "knapsack-b3.65-s0") == [own.format(".draw2")]
    assert files.row_allocation(draw, "knapsack-b3.65-s0-draw0") == [own.format("")]
    assert files.shared_allocation(draw, "knapsack", "3.65", "0") == [own.format("")]
    row = f"results/smoke/quantized/{draw}/knapsack-b3.65-s0-draw0/model.safetensors"
    assert files.weights(draw, "knapsack-b3.65-s0-draw0") == [row]
    assert values.calibration(draw) == [*values.calibration(S), "--draw", "2"]
    assert "--draw" not in values.calibration(S)
    assert (values.draw(S), values.draw(draw)) == ([], ["--draw", "2"])
    assert values.of_model(draw, 1, 2) == values.of_model(S, 1, 2) == 1
    assert values.of_model("tiny-mistral.draw1", 1, 2) == 2


def test_rows_of_a_draw_may_share_the_scores_of_its_knapsack() -> None:
    """Many searches end where they start; the study's own rows stay as they are."""
    files, draw = files_of(smoke()), f"{S}.draw2"
    at = "results/smoke/{}/tiny-llama-s.draw2/knapsack-b3.65-s0{}"
    twin = [at.format("quantized", "/model.safetensors"), at.format("metrics", ".json")]
    for row in ("random_search-b3.65-s1", "knapsack-b3.65-s0-draw0"):
        assert files.twin(draw, row) == twin
    for model, row in ((draw, "knapsack-b3.65-s0"), (draw, "awq_gptq-b4-s0"), (S, "random_search-b3.65-s0")):
        assert files.twin(model, row) == []
    assert files.twin(S, "random_search-b3.65-s1") == [file.replace(".draw2", "") for file in twin], "a seed more"
    assert files_of(smoke(methods=["random_search"], same_allocation=[])).twin(draw, "random_search-b3.65-s1") == []


def test_a_league_may_run_on_draws_of_a_model() -> None:
    grid = {"models": [S, f"{S}.draw2"], "methods": ["knapsack"], "budgets": [3.65], "checkpoints": [6]}
    plan = plan_of("smoke.yaml", league={"grids": {"a": grid}}, banks=None)
    draw = f"{S}.draw2"
    assert [run.model for run in plan.league.runs] == [S, draw]
    assert draw in plan.all_models
    assert draw not in plan.base_models
    assert files_of(plan).accepted(draw) == files_of(plan).accepted(S)
    for change in ({"league": {"grids": {"a": grid | {"models": ["tiny.draw2"]}}}}, {"optimum": {**OPTIMUM}}):
        with pytest.raises(ConfigError, match="unknown model 'tiny"):
            plan_of("smoke.yaml", **change)


def test_a_variant_is_searched_as_its_method_is() -> None:
    plan = plan_of("banks.yaml")
    assert "evolution_warm" in plan.mixed
    assert "evolution_warm" not in plan.learned
    assert plan.bank_of("evolution_warm") == plan.bank_of("ramp")
    assert plan.params("evolution_warm")["start"] == "knapsack"
    assert "ramp" in plan.learned
    assert values_of(plan).bank_titles() == ["evolution_warm=Evolution from the knapsack"]


def test_the_shipped_grid_is_five_banks_and_three_seeds() -> None:
    plan = plan_of("banks.yaml")
    rows = plan.banks.rows
    assert {row.bank for row in rows} == {0, 1, 2, 3, 4}
    for method in ("role_depth", "ramp", "evolution_warm"):
        own = {(r.bank, r.row.budget, r.row.seed) for r in rows if r.row.method == method}
        assert own == {(bank, b, s) for bank in range(5) for b in ("3.65", "3.75", "4") for s in range(3)}
    study = {(row.model, row.name) for row in plan_of("config.yaml", depth="full").rows}
    first = {(r.row.model, r.row.name) for r in rows if r.bank == 0}
    assert ("smollm2-135m", "ramp-b3.65-s2") in study & first, "bank 0 is the study's own"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": ["knapsack", "rtn"]}, "'rtn' is no allocator"),
        ({"uniform": ["ramp-b3.65"]}, "'ramp-b3.65' is no uniform row"),
        ({"same_allocation": ["ramp-b3.65"]}, "'ramp-b3.65' is of no method and budget"),
    ],
)
def test_rows_that_a_bank_cannot_have_are_refused(change: dict[str, Any], words: str) -> None:
    refused(PlanError, {words: lambda: smoke(**change)})


# --- the collector ---------------------------------------------------------------------------------------------------


PLAIN: dict[str, Any] = {"sizes": {}, "search": None, "simulated": True, "note": "", "versions": {}}


def metrics(folder: Path, method: str, draw: int, kl: float | None, **key: Any) -> str:
    """A metrics file of three windows."""
    windows = [{"window": i, "tokens": 63, "nll": 180.0, "kl": None if kl is None else 63 * kl} for i in range(3)]
    text = {"length": 64, "windows": windows, "ppl": 20.0, "ppl_low": 19.0, "ppl_high": 21.0}
    text |= {"kl": kl, "kl_low": kl, "kl_high": kl}
    made = {"track": "q8_0"} | ({"draw": draw} if draw else {})
    value = {"key": row_key(method=method, **key), "texts": {"heldout": text}, "made": made, **PLAIN}
    file = folder / f"{method}-{draw}-{'-'.join(map(str, key.values()))}.json"
    write_json(file, value | {"dtype": "float32", "commit": "abc", "hardware": "abacus"}, sealed=True)
    return str(file)


def test_rows_are_compared_with_the_knapsack_of_their_own_bank(tmp_path: Path) -> None:
    rows = [
        f"knapsack,0,0={metrics(tmp_path, 'knapsack', 0, 0.2, seed=0)}",
        f"knapsack,3,3={metrics(tmp_path, 'knapsack', 3, 0.4, seed=0)}",
        f"knapsack,3,0={metrics(tmp_path, 'knapsack', 3, 0.5, seed=7)}",
        f"warm,3,3={metrics(tmp_path, 'evolution', 3, 0.3, seed=1)}",
        f"awq_gptq,3,3={metrics(tmp_path, 'awq_gptq', 3, 0.1, budget_bits=3.0)}",
    ]
    out = tmp_path / "records"
    assert collect_main(["--rows", *rows, "--titles", "warm=Warm start", "--out", str(out)]) == 0
    table = read_table(out / "banks.csv").set_index(["method", "bank_seed", "allocation_bank"])
    assert table.loc[("knapsack", 0, 0), "ratio"] == 1
    assert table.loc[("knapsack", 3, 0), "ratio"] == pytest.approx(1.25), "one allocation, beside the bank's own"
    assert table.loc[("warm", 3, 3), "ratio"] == pytest.approx(0.75)
    assert table.loc[("warm", 3, 3), "title"] == "Warm start"
    uniform = table.loc[("awq_gptq", 3, 3)]
    assert uniform["kl"] == 0.1
    assert uniform[["kl_knapsack", "ratio"]].isna().all(), "no knapsack at its budget"
    windows = read_table(out / "banks_windows.csv")
    assert len(windows) == 15
    assert windows.groupby(["method", "bank_seed", "allocation_bank"])["kl"].sum()["warm", 3, 3] == pytest.approx(56.7)


def test_a_row_of_another_draw_or_text_is_refused(tmp_path: Path) -> None:
    def collected(*rows: str) -> None:
        collect_main(["--rows", *rows, "--out", str(tmp_path / "records")])

    right = f"knapsack,1,1={metrics(tmp_path, 'knapsack', 1, 0.2, seed=0)}"
    other = tmp_path / "other.json"
    write_json(other, {"key": row_key(method="ramp"), "texts": {}, "made": {"draw": 1}, **PLAIN}, sealed=True)
    calls = {
        "calibrated on draw 1 and is named as of bank 2": lambda: collected(right.replace("1,1", "2,2")),
        "no scores on 'heldout'": lambda: collected(right, f"ramp,1,1={other}"),
        "two rows named": lambda: collected(right, right),
        "no run": collected,
    }
    refused(RecordsError, calls)
    with pytest.raises(SystemExit):
        collected("knapsack,1=x.json")
    assert not (tmp_path / "records" / "banks.csv").exists()


def test_a_row_whose_loss_is_not_finite_has_no_ratio(tmp_path: Path) -> None:
    rows = [f"{m},1,1={metrics(tmp_path, m, 1, kl)}" for m, kl in (("knapsack", 0.2), ("ramp", None))]
    collect_main(["--rows", *rows, "--out", str(tmp_path)])
    table = read_table(tmp_path / "banks.csv").set_index("method")
    assert table.loc["ramp", ["kl", "ratio"]].isna().all()
    assert table.loc["ramp", "kl_knapsack"] == 0.2
