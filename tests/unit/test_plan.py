"""Rows of a study: which there are, how they are called, where their files lie."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from ramp.methods.kinds import FoldRef, Package
from ramp.methods.loader import load_method
from ramp.models.architecture import LinearSpec, list_linears
from ramp.problem.budget import budget_bytes
from ramp.quantizers.sizes import uniform_bytes
from ramp.study.planned_rows import Plan
from ramp.study.row_names import PlanError, Row, bits
from ramp.study.validation import read
from tests.plans import REPO, files_of, plan_of


def test_uniform_rows_take_folds_of_their_own_width_and_mixed_rows_the_shared_one() -> None:
    plan = plan_of("config.yaml")
    assert [str(plan.fold_of("awq", budget)) for budget in ("3", "4")] == ["awq_w3", "awq_w4"]
    assert plan.fold_of("awq_gptq", "4") == FoldRef("awq", 4)
    assert plan.fold_of("ramp", "4") == plan.fold_of("ramp_transfer", "3.65") == plan.fold_of("awq") == FoldRef("awq")
    assert plan.fold_of("gptq", "4") == FoldRef("none")
    own = plan.fold_settings("awq_w4")
    assert own is not None
    assert own == plan.study.folds["awq"].model_copy(update={"bits": [4]})
    assert plan.fold_settings("none") is None


def test_a_fold_is_shared_where_it_has_that_one_width_or_the_study_says_so() -> None:
    for fold in ({"kind": "awq", "bits": [4]}, {"kind": "awq", "own_width": False}, {"kind": "smoothquant"}):
        assert plan_of("config.yaml", folds={"awq": fold}).fold_of("awq", "4") == FoldRef("awq")


def test_a_method_on_a_fold_that_the_study_does_not_have_is_refused() -> None:
    with pytest.raises(PlanError, match="'awqq'"):
        plan_of("config.yaml", folds={"awqq": {"kind": "awq", "bits": [4]}})


def test_wide_has_every_method_of_full_and_the_limits_of_quick() -> None:
    quick, wide, full = (plan_of("config.yaml", depth=depth) for depth in ("quick", "wide", "full"))
    assert {row.short for row in wide.source_rows} == {row.short for row in full.source_rows}
    assert wide.mix_rows == full.mix_rows
    assert wide.track_rows == full.track_rows
    more = {"extra_methods", "control_budgets", "more_budgets", "tracks"}
    assert wide.study.limits.model_dump(exclude=more) == quick.study.limits.model_dump(exclude=more)


def test_full_depth_has_all_seeds_where_chance_plays_a_part() -> None:
    plan = plan_of("config.yaml", depth="full")
    seeds = {method: {row.seed for row in plan.source_rows if row.method == method} for method in plan.methods}
    assert seeds["ramp"] == {0, 1, 2}
    assert seeds["knapsack"] == seeds["gptq"] == {0}
    exhaustive = plan_of("config.yaml", depth="exhaustive")
    assert exhaustive.task_rows == exhaustive.source_rows == plan.source_rows


def test_packages_have_rows_in_full_depth_at_every_width_and_no_environment_for_one_that_they_have_not() -> None:
    quick, full = (
        plan_of("config.yaml", depth=depth, external=["gptqmodel_gptq", "gptqmodel_awq"]) for depth in ("quick", "full")
    )
    assert not [row for row in quick.rows if row.method in quick.of_kind(Package)]
    rows = [row for row in full.rows if row.method in full.of_kind(Package)]
    names = ("gptqmodel_gptq", "gptqmodel_awq")
    assert {row.short for row in rows} == {f"{name}-b{width}" for name in names for width in (3, 4)}
    needed = {(name, width): full.environment_of(name, width) for name in names for width in ("3", "4")}
    assert full.methods["gptqmodel_awq"].bits == (4,)
    assert needed == dict.fromkeys(needed, "gptqmodel") | {("gptqmodel_awq", "3"): None}
    assert {(row.model, row.seed) for row in rows} == {("smollm2-135m", 0)}
    assert quick.external_rows == rows  # what `baselines_external` makes at any depth
    assert list(full.environments) == ["gptqmodel"]
    assert full.fold_of("gptqmodel_awq") == FoldRef("none")
    assert files_of(full).row_allocation("smollm2-135m", "gptqmodel_awq-b4-s0") == []


def test_a_package_may_stand_among_the_methods_and_a_method_not_among_the_packages() -> None:
    methods = [*read(REPO / "config" / "smoke.yaml")["methods"], "gptqmodel_awq"]
    plan = plan_of("smoke.yaml", methods=methods)
    assert "gptqmodel_awq-b4" in {row.short for row in plan.source_rows}
    with pytest.raises(PlanError, match="'gptq'"):
        plan_of("smoke.yaml", external=["gptq"])


def test_controls_belong_to_full_depth_and_to_the_source() -> None:
    """Static mixes, smaller groups, budgets of the same bytes and a second track; none of them in quick."""
    quick, full = plan_of("config.yaml"), plan_of("config.yaml", depth="full", external=[])
    assert quick.mix_rows == quick.track_rows == []
    mixes = {row.name for row in full.mix_rows}
    assert mixes == {
        f"q{name}{end}-b{name[0]}-s0-ggml" for name in ("3_k_m", "4_k_s", "4_k_m") for end in ("", "_imatrix")
    }
    assert not mixes & {row.name for row in full.rows}  # another grid
    assert files_of(full).row_allocation("smollm2-135m", "q4_k_m-b4-s0-ggml") == []
    added = {row.short for row in full.source_rows} - {row.short for row in quick.source_rows}
    smaller = {f"{method}_g{group}-b{b}" for method in ("gptq", "awq_gptq") for group in (64, 32) for b in (3, 4)}
    searched = {"role_depth-b3.65", "role_depth-b4"}  # searches do not get the controls' budgets
    assert added == smaller | searched | {"knapsack-b3.33", "knapsack-b4.35", "knapsack-b3.75", "ramp-b3.75"}
    assert [row.name for row in full.track_rows] == [f"{name}-b4-s0-fp16" for name in ("awq_gptq", "knapsack", "ramp")]
    file = "results/allocations/smollm2-135m/ramp/4/0.json"
    assert files_of(full).row_allocation("smollm2-135m", "ramp-b4-s0-fp16") == [file]
    assert {row.method for row in full.target_rows} == {row.method for row in quick.target_rows}


SHAPES = {
    "config.yaml": {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3},
    "paper.yaml": {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32},
}
"""Of SmolLM2-135M and Llama-2-7B, from their published configurations."""


def shaped_linears(file: str) -> list[LinearSpec]:
    """Linears of two blocks of a study's source."""
    return list_linears(LlamaConfig(num_hidden_layers=2, **SHAPES[file]))


@pytest.mark.parametrize("file", SHAPES)
def test_the_control_budgets_weigh_what_smaller_groups_weigh(file: str) -> None:
    """The numbers of the configuration, on the source's shapes: within 0.2 % of uniform rows in groups of 32."""
    linears, study = shaped_linears(file), plan_of(file, depth="full").study
    for budget, width in zip(study.limits.control_budgets, study.uniform_bits, strict=True):
        mixed, control = budget_bytes(linears, budget, study.group_size), uniform_bytes(linears, width, 32)
        assert abs(mixed / control - 1) < 0.002


def test_ramp_and_the_knapsack_stand_at_six_per_cent_fewer_bytes_than_uniform_4_bits() -> None:
    linears, plan = shaped_linears("config.yaml"), plan_of("config.yaml", depth="full")
    for method in ("knapsack", "ramp"):
        (budget,) = plan.study.limits.more_budgets[method]
        assert budget in plan.budgets(method)
        size = budget_bytes(linears, budget, plan.study.group_size)
        assert size / uniform_bytes(linears, 4, plan.study.group_size) == pytest.approx(0.94, abs=0.001)
    assert 3.75 not in plan.budgets("random_search")


@pytest.mark.parametrize(
    ("change", "rows", "words"),
    [
        ({"tracks": {"fp16": ["rtn-b3"]}}, "track_rows", r"tracks\.fp16: .*'rtn-b3' .*rtn-b4"),
        ({"task_rows": ["ramp-b3.7"]}, "task_rows", r"'ramp-b3\.7'.*ramp-b3\.65"),
    ],
)
def test_an_unknown_row_of_a_section_is_named_with_the_nearest(change: dict[str, Any], rows: str, words: str) -> None:
    depths = read(REPO / "config" / "smoke.yaml")["depths"]
    depths["quick"] |= change
    with pytest.raises(PlanError, match=words):
        getattr(plan_of("smoke.yaml", depths=depths), rows)


def test_only_released_files_have_a_row_of_their_own() -> None:
    assert "released" in {row.method for row in plan_of("config.yaml").source_rows}
    assert "released" not in {row.method for row in plan_of("smoke.yaml").rows}


def test_the_allocation_behind_a_row() -> None:
    files = files_of(plan_of("smoke.yaml"))
    file = "results/smoke/allocations/tiny-llama-s/ramp/3.65/0.json"
    assert files.row_allocation("tiny-llama-s", "ramp-b3.65-s0") == [file]
    assert files.row_allocation("tiny-llama-s", "ramp-b3.65-s0-ggml") == [file]
    assert files.row_allocation("tiny-llama-s", "awq_gptq-b4-s0") == []
    with pytest.raises(PlanError, match="is no row"):
        files.row_allocation("tiny-llama-s", "ramp")


def test_names_of_rows_and_folds() -> None:
    assert [bits(value) for value in (4.0, 3.65, 3)] == ["4", "3.65", "3"]
    row = Row("m", "ramp", "3.65", 1)
    assert (row.name, row.short) == ("ramp-b3.65-s1", "ramp-b3.65")
    assert Row.parse(row.name, "m") == Row.parse(row.short, "m", 1) == row
    for fold in (FoldRef("awq"), FoldRef("awq", 4), FoldRef("awq_norms", 3), FoldRef("sq50")):
        assert FoldRef.parse(str(fold)) == fold
    stored = Row.parse("q4_k_m_imatrix-b4-s0-ggml")
    assert (stored.method, stored.budget, stored.seed, stored.ending) == ("q4_k_m_imatrix", "4", 0, "ggml")
    assert (stored.name, stored.base) == ("q4_k_m_imatrix-b4-s0-ggml", "q4_k_m_imatrix-b4-s0")


def unable_plan(tmp_path: Path, text: str, **change: Any) -> Plan:
    """The smoke study with one more method, ``mine``."""
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    plan = plan_of("smoke.yaml", **change)
    return replace(plan, methods={**plan.methods, "mine": load_method(tmp_path / "mine.py")})


QUANTIZER = """
from ramp.methods.kinds import Quantizer, RtnParams

METHOD = Quantizer(name="mine", title="Mine", source="here", fold="awq", quantizer="rtn", params=RtnParams, MORE)
"""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('skip=lambda: "it needs a GPU"', "it needs a GPU"),
        ('requirements=("no-such-package==1.0",)', "it needs no-such-package==1.0: pip install no-such-package==1.0"),
        ('requirements=("numpy==0.1",)', "it needs numpy==0.1: pip install numpy==0.1"),
    ],
)
def test_a_method_that_cannot_run_here_keeps_its_rows_and_asks_for_nothing(
    tmp_path: Path, more: str, reason: str
) -> None:
    plan = unable_plan(tmp_path, QUANTIZER.replace("MORE", more))
    assert plan.unable == {"mine": reason}
    assert not plan.has_weights(Row.parse("mine-b4-s0"))
    assert plan.has_weights(Row.parse("rtn-b4-s0"))


def test_a_method_without_a_policy_is_not_transferred() -> None:
    transfer = {"methods": ["ramp", "knapsack"], "uniform": [], "rivals": []}
    with pytest.raises(PlanError, match=r"transfer\.methods: 'knapsack'"):
        plan_of("smoke.yaml", transfer=transfer)


def test_an_allocator_that_cannot_run_here_leaves_its_rows_and_the_league_without_it(tmp_path: Path) -> None:
    """Its policy's rows on targets have the same reason; no allocation, export or league run is asked for."""
    able = plan_of("smoke.yaml")
    learner = replace(able.methods["ramp"], skip=lambda: "it needs a GPU")  # type: ignore[type-var]  # no Mix or such
    plan = replace(able, methods={**able.methods, "ramp": learner})
    assert plan.unable == {"ramp": "it needs a GPU", "ramp_transfer": "it needs a GPU"}
    assert plan.rows == able.rows
    assert files_of(able).row_allocation("tiny-llama-s", "ramp-b3.65-s0")
    assert files_of(plan).row_allocation("tiny-llama-s", "ramp-b3.65-s0") == []
    assert files_of(plan).row_allocation("tiny-mistral", "ramp_transfer-b3.65-s0") == []
    assert able.halo_rows
    assert plan.halo_rows == []
    assert {run.allocator for run in able.league.runs} == {"knapsack", "random_search", "ramp"}
    assert {run.allocator for run in plan.league.runs} == {"knapsack", "random_search"}
    assert plan.league.optimum.methods == able.league.optimum.methods == ["knapsack", "random_search"]


def test_requirements_that_are_there_are_no_reason(tmp_path: Path) -> None:
    here = f'requirements=("numpy=={version("numpy")}", "torch=={version("torch").partition("+")[0]}")'
    assert unable_plan(tmp_path, QUANTIZER.replace("MORE", here)).unable == {}
