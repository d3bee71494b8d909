"""Variants of methods: only what is named changes, and faults have the nearest valid name; faults of a league."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ramp.methods.kinds import MethodError
from ramp.methods.loader import load_method
from ramp.search.resume import ROOT
from ramp.study.league_plan import LeagueRun, run_words
from ramp.study.row_names import PlanError
from ramp.study.validation import ConfigError, validate
from ramp.study.variants import overlaid, variant_params
from tests.plans import plan_of

GRID = {"models": ["tiny-llama-s"], "methods": ["knapsack"], "budgets": [3.65]}
GOOD: dict[str, Any] = {
    "study": "test",
    "source": "smollm2-135m",
    "methods": ["knapsack", "ramp"],
    "variants": {"ramp_unshaped": {"method": "ramp", "params": {"shaping": False}}},
    "league": {"grids": {"a": {**GRID, "methods": ["knapsack", "ramp_unshaped"]}}},
    "optimum": {"models": ["tiny-llama-s"], "methods": ["ramp"], "budgets": [3.5]},
}


def method(name: str) -> Any:
    return load_method(Path(ROOT) / "baselines" / f"{name}.py")


def test_nothing_but_the_named_switch_changes() -> None:
    """Of nested parameters too: the paper's variant keeps its own perplexity reward without the cliff."""
    before = method("ramp_paper").params().model_dump(mode="json")
    after = variant_params("v", method("ramp_paper"), {}, {"reward": {"k_c": 0}})
    assert before["reward"]["quality"] == after["reward"]["quality"] == "log_ppl"
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"reward"}
    assert {key for key in before["reward"] if before["reward"][key] != after["reward"][key]} == {"k_c"}


def test_the_study_s_own_parameters_stay_below_a_variant_s() -> None:
    found = variant_params("v", method("ramp"), {"shaping": False, "follow": 0.5}, {"follow": 0.7})
    assert (found["shaping"], found["follow"]) == (False, 0.7)


def test_laying_over_leaves_its_input_alone() -> None:
    values = {"a": {"b": 1, "c": 2}, "d": 3}
    assert overlaid(values, {"a": {"b": 5}, "e": 4}) == {"a": {"b": 5, "c": 2}, "d": 3, "e": 4}
    assert values == {"a": {"b": 1, "c": 2}, "d": 3}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shapping": False}, r"variant 'v': .*unknown key 'shapping' .did you mean 'shaping'"),
        ({"reward": {"k_d": 1}}, r"variant 'v': .*unknown key 'reward.k_d' .did you mean 'k_"),
        ({"follow": 3}, r"variant 'v': parameters of method 'ramp': 'follow'"),
        ({"reward": {"k_b": 99}}, "quality first"),
    ],
)
def test_a_faulty_variant_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MethodError, match=sentence):
        variant_params("v", method("ramp"), {}, changes)


def faults(**change: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(
            {**copy.deepcopy(GOOD), **change},
            methods=["knapsack", "ramp"],
            models=["smollm2-135m", "tiny-llama-s"],
        )
    return str(caught.value)


def test_a_league_with_a_variant_is_valid() -> None:
    assert validate(GOOD, methods=["knapsack", "ramp"], models=["smollm2-135m", "tiny-llama-s"]).league is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variants": {"v": {"method": "rampp"}}}, "variants.v.method: unknown method 'rampp' (did you mean 'ramp'?)"),
        ({"variants": {"ramp": {"method": "ramp"}}}, "variants: 'ramp' is registered in baselines/ already"),
        ({"variants": {"v": {"methd": "ramp"}}}, "unknown key 'methd' in 'variants.v' (did you mean 'method'?)"),
        (
            {"league": {"grids": {"a": {**GRID, "methods": ["ramp_unshapd"]}}}},
            "league.grids.a.methods: unknown method 'ramp_unshapd' (did you mean 'ramp_unshaped'?)",
        ),
        ({"league": {"grids": {"a": {**GRID, "methods": ["ramp", "ramp"]}}}}, "'ramp' is listed twice"),
        ({"league": {"grids": {"a": {**GRID, "models": ["tiny-lama-s"]}}}}, "unknown model 'tiny-lama-s' (did you"),
        ({"league": {"grids": {"a": {**GRID, "budgets": [2.5]}}}}, "league.grids.a.budgets[0]: 2.5 bits is below"),
        ({"league": {"grids": {"a": {**GRID, "budgets": [9]}}}}, "league.grids.a.budgets[0]: 9 bits is above"),
        ({"league": {"grids": {"a": {**GRID, "checkpoints": [9, 3]}}}}, "checkpoints: [9, 3] should rise"),
        (
            {"league": {"grids": {"a": GRID, "b": {**GRID, "budgets": [4.0], "search": {"windows": 64}}}}},
            "league.grids.b.search: tiny-llama-s has another search text in grid 'a'",
        ),
        ({"league": {"grid": {}}}, "unknown key 'grid' in 'league' (did you mean 'grids'?)"),
        ({"optimum": {**GOOD["optimum"], "widths": [2, 4]}}, "optimum.widths[0]: 2 is not in the study's widths"),
        ({"optimum": {**GOOD["optimum"], "budgets": [6.5]}}, "optimum.budgets[0]: 6.5 bits is above"),
        ({"optimum": {**GOOD["optimum"], "count": 9}}, "optimum.count: 9"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_fault_of_the_league_has_its_path_and_the_nearest_name(change: dict[str, Any], words: str) -> None:
    assert words in faults(**change)


def test_the_shipped_league_is_whole() -> None:
    """Every combination once, deterministic methods with one seed, one bank; checkpoints do not multiply runs."""
    plan = plan_of("league.yaml")
    league = plan.league
    tiny = [run for run in league.runs if run.allocator == "ramp" and run.model == "tiny-llama-m"]
    assert len(tiny) == 5 * 5
    assert {run.budget for run in tiny} == {"3.25", "3.5", "3.65", "3.75", "4"}
    assert {run.evals for run in tiny} == {1000}
    assert len([run for run in league.runs if run.allocator == "knapsack" and run.model == "tiny-llama-m"]) == 5
    assert {run.evals for run in league.runs if run.model == "smollm2-135m"} == {100, 300}
    assert plan.params("ramp_paper_no_cliff")["reward"]["k_c"] == 0
    assert "tiny-mistral" in plan.trained
    assert "smollm2-135m" not in plan.trained


@pytest.mark.parametrize(
    ("grids", "sentence"),
    [
        ({"a": GRID, "b": GRID}, "grids 'a' and 'b' both hold knapsack on tiny-llama-s at 3.65 bits"),
        ({"a": {**GRID, "methods": ["rtn"]}}, "'rtn' is no allocator"),
        (
            {"a": GRID, "b": {**GRID, "budgets": [4], "heldout": {"windows": 1, "length": 2}}},
            "different held-out windows of tiny-llama-s",
        ),
    ],
)
def test_a_league_that_compares_unlike_with_like_is_refused(grids: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan_of("smoke.yaml", league={"grids": grids})


def test_bash_expands_the_words_of_a_league_to_its_files() -> None:
    runs = plan_of("league.yaml").league.runs
    uneven = [run for run in runs if (run.budget, run.seed) != (runs[0].budget, 0)]  # as a partial league may be
    for some in (runs, uneven, runs[:1], [LeagueRun("m", "ramp", "3.65", 5, 7), LeagueRun("m", "ramp", "3.65", 9, 7)]):
        words = run_words("a b/league", some)
        said = subprocess.run(["bash", "-c", f"printf '%s\\n' {words}"], capture_output=True, text=True, check=True)
        files = [f"a b/league/{r.model}/{r.allocator}/{r.budget}/{r.evals}/{r.seed}.json" for r in some]
        assert sorted(said.stdout.splitlines()) == sorted(files)
    assert len(runs) > 100
    assert len(run_words("results/league", runs)) < 16_000  # of 128 KB that a command may have
