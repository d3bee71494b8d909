"""Variants of methods: only what is named changes, and faults have the nearest valid name; leagues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ramp.methods.kinds import MethodError
from ramp.methods.loader import load_method
from ramp.records.collect_league import listed
from ramp.search.journal import ROOT
from ramp.study.league_plan import LeagueRun, run_words
from ramp.study.row_names import PlanError
from ramp.study.variants import overlaid, variant_params
from tests.plans import plan_of


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
        ({"shapping": False}, "'shapping' .*did you mean 'shaping'"),
        ({"reward": {"k_d": 1}}, "'k_d' in 'reward'"),
        ({"follow": 3}, "variant 'v': .*follow: 3"),
        ({"reward": {"k_b": 99}}, "quality first"),
    ],
)
def test_a_faulty_variant_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MethodError, match=sentence):
        variant_params("v", method("ramp"), {}, changes)


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


GRID = {"models": ["tiny-llama-s"], "methods": ["knapsack"], "budgets": [3.65]}


@pytest.mark.parametrize(
    ("grids", "sentence"),
    [
        ({"a": GRID, "b": GRID}, "'a' and 'b' both hold knapsack"),
        ({"a": {**GRID, "methods": ["rtn"]}}, "'rtn' is no allocator"),
        (
            {"a": GRID, "b": {**GRID, "budgets": [4], "heldout": {"windows": 1, "length": 2}}},
            "different held-out",
        ),
    ],
)
def test_a_league_that_compares_unlike_with_like_is_refused(grids: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        plan_of("smoke.yaml", league={"grids": grids})


def test_the_words_of_a_league_name_its_files(tmp_path: Path) -> None:
    runs = plan_of("league.yaml").league.runs
    uneven = [run for run in runs if (run.budget, run.seed) != (runs[0].budget, 0)]  # as a partial league may be
    for some in (runs, uneven, runs[:1], [LeagueRun("m", "ramp", "3.65", 5, 7), LeagueRun("m", "ramp", "3.65", 9, 7)]):
        (tmp_path / "words").write_text("\n".join(run_words("a b/league", some)))
        files = [f"a b/league/{r.model}/{r.allocator}/{r.budget}/{r.evals}/{r.seed}.json" for r in some]
        assert sorted(map(str, listed(str(tmp_path / "words")))) == sorted(files)
    assert len(runs) > 100
    assert len(" ".join(run_words("results/league", runs))) < 16_000  # of 128 KB that a command may have
