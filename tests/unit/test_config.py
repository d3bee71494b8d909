"""The configuration: defaults, every fault at once with its path and nearest name, files and schema that stay true."""

from __future__ import annotations

import copy
import datetime
import difflib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramp.study.config import Study, schema
from ramp.study.validation import ConfigError
from tests.plans import study_of, validate

REPO = Path(__file__).resolve().parents[2]
FILES = sorted(file for file in (REPO / "config").glob("*.yaml") if not file.name.startswith("assets"))
METHODS = ["rtn", "gptq", "awq", "awq_gptq", "knapsack", "random_search", "role_depth", "ramp_paper", "ramp"]
MODELS = ["smollm2-135m", "qwen2.5-coder-0.5b", "tiny-llama-s"]
GRID = {"models": ["tiny-llama-s"], "methods": ["knapsack", "ramp_unshaped"], "budgets": [3.65]}
GOOD: dict[str, Any] = {"study": "test", "source": "smollm2-135m", "targets": ["qwen2.5-coder-0.5b"]}
VARIANT = {"ramp_unshaped": {"method": "ramp", "params": {"shaping": False}}}


def variant(name: str, **fields: Any) -> dict[str, Any]:
    return {"variants": {name: fields}}


def grid(**change: Any) -> dict[str, Any]:
    """A league of one grid with some keys changed, and the variant in it."""
    return {"variants": VARIANT, "league": {"grids": {"a": GRID | change}}}


def optimum(**change: Any) -> dict[str, Any]:
    return {"optimum": {"models": ["tiny-llama-s"], "methods": ["ramp"], "budgets": [3.5]} | change}


def entry(**source: Any) -> dict[str, Any]:
    """An entry of a model with one source."""
    return {"type": "model", "licence": "none", "sources": [source]}


def ablation(**change: Any) -> dict[str, Any]:
    folds = {"awq": {"kind": "awq"}, "sq50": {"kind": "smoothquant"}}
    made = {"models": ["tiny-llama-s"], "folds": ["none", "sq50"], "methods": ["rtn"]}
    return {"folds": folds, "fold_ablation": made | change}


def banks(**change: Any) -> dict[str, Any]:
    return {"banks": {"models": ["tiny-llama-s"], "methods": ["ramp"], "budgets": [3.65]} | change}


def test_sections_without_a_fault_are_valid() -> None:
    study = validate({**GOOD, **grid(), **optimum(), **ablation(), **banks()}, methods=METHODS, models=MODELS)
    assert study.league is not None
    assert study.fold_ablation is not None
    assert study.banks is not None


def faults(change: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate({**copy.deepcopy(GOOD), **change}, methods=METHODS, models=MODELS)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_shipped_configuration_is_valid(file: Path) -> None:
    from ramp.assets.registry import load_registry
    from ramp.methods.loader import discover

    models = load_registry(REPO / "config" / "assets.yaml").of_type("model")
    study = validate(study_of(file.name), methods=discover(REPO / "baselines"), models=models)
    assert set(study.depths) - {"wide", "exhaustive"} == {"quick", "full"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modles": 1}, ["unknown key 'modles' at top level", "did you mean"]),
        ({"depths": {"quick": {"eval": 3}}}, ["unknown key 'eval' in 'depths.quick'", "did you mean 'evals'?"]),
        ({"folds": {"awq": {"kidn": "awq"}}}, ["unknown key 'kidn' in 'folds.awq'", "did you mean 'kind'?"]),
        ({"methods": ["gtpq"]}, ["methods: unknown method 'gtpq'", "did you mean 'gptq'?"]),
        ({"halo": {"methods": ["rampp"]}}, ["halo.methods: unknown method 'rampp'", "did you mean 'ramp'?"]),
        ({"source": "smolm2-135m"}, ["source: unknown model 'smolm2-135m'", "did you mean 'smollm2-135m'?"]),
        ({"targets": ["gpt-5"]}, ["targets: unknown model 'gpt-5'", "known: "]),
        ({"targets": ["smollm2-135m"]}, ["targets: 'smollm2-135m' is the source already"]),
        ({"depth": "quik"}, ["depth: 'quik' is not known", "did you mean 'quick'?"]),
        ({"records": "publishd"}, ["records: 'publishd'", "published"]),
        ({"budgets": [2.9]}, ["budgets[0]: 2.9 bits is below the cheapest width of the menu, 3"]),
        ({"budgets": [4, 6.5]}, ["budgets[1]: 6.5 bits is above the dearest width of the menu, 6"]),
        ({"depths": {"quick": {"transfer_budgets": [1]}}}, ["depths.quick.transfer_budgets[0]", "below the cheapest"]),
        ({"depths": {"quick": {"evals": 0}}}, ["depths.quick.evals: 0 should be greater than 0"]),
        (
            {"depths": {"quick": {"evals": 10**12}}},
            ["depths.quick.evals: 1000000000000 should be less than or equal to"],
        ),
        ({"calibration": {"tokens": 0}}, ["calibration.tokens: 0"]),
        ({"widths": [4, 3]}, ["widths: [4, 3] should rise"]),
        (
            {"tuning": {"models": ["smollm2-135m"], "rows": ["float-b16"]}},
            ["tuning.rows[0]: 'float-b16' is not quantized"],
        ),
        (
            {"leakage": {"models": ["smollm2-135m"], "rows": ["rtn-b4.0"]}},
            ["leakage.rows[0]: 'rtn-b4.0' is written rtn-b4"],
        ),
        ({"widths": [3, 9]}, ["widths[1]: 9"]),
        ({"widths": [3, "4g"]}, ["widths[1]: '4g' is not a width", "4g32"]),
        ({"widths": [3, "3g64", "3g256", 4]}, ["should rise and repeat nothing: ['3g256', 3, '3g64', 4]"]),
        ({"widths": [3, "3g128", 4]}, ["should rise and repeat nothing: [3, 4]"]),
        ({"widths": ["3g32", "5g32"], "budgets": [5.5]}, ["above the dearest width of the menu, 5"]),
        ({"study": "../up"}, ["study: '../up' is not allowed"]),
        ({"results": "../elsewhere"}, ["results: '../elsewhere' is not allowed"]),
        ({"tuning": {"models": ["./mine"]}}, ["tuning.models[0]: './mine' is not allowed", "name an entry of assets"]),
        ({"methods": ["../ramp"]}, ["methods[0]: '../ramp' is not allowed"]),
        ({"params": {"../x": {}}}, ["'../x' is not allowed"]),
        ({"device": "gpu"}, ["device: 'gpu' is not allowed", "auto, cpu, cuda or cuda:N"]),
        ({"device": ["cpu"]}, ['device: ["cpu"] should be one text']),
        ({"evaluation": ["heldout"]}, ['evaluation: ["heldout"] should be keys', "length", "texts"]),
        ({"evaluation": None}, ["evaluation is empty"]),
        ({"study": datetime.date(2026, 12, 1)}, ["study: 2026-12-01 should be text", "in quotes"]),
        ({"methods": "rtn"}, ["methods: 'rtn' should be a list"]),
        ({"methods": []}, ["methods: [] has too few entries: give at least 1"]),
        ({"threads": "two"}, ["threads: 'two' should be a whole number"]),
        ({"depths": {"quick": {"windows": 1.5}}}, ["depths.quick.windows: 1.5 should be a whole number"]),
        ({"reproducible": "maybe"}, ["reproducible: 'maybe' should be true or false"]),
        ({"params": {"rtn": None}}, ["params.rtn is empty"]),
        ({"params": {None: {}}}, ["the key null in 'params' is not text"]),
        ({7: 1}, ["the key 7 is not text"]),
        ({"widths": ["\u00b2", 4]}, ["widths[0]: '\u00b2' is not a width"]),
        ({"assets": {"a": entry(kind="huggingface")}}, ["assets.a.sources[0].kind: 'huggingface' is not known", "hub"]),
        ({"assets": {"a": entry(path="x")}}, ["assets.a.sources[0].kind: missing"]),
        ({"assets": {"a": entry(kind=None, path="x")}}, ["assets.a.sources[0].kind: missing"]),
        ({"widths": [datetime.date(2026, 12, 1), 4]}, ["widths[0]: 2026-12-01 should be bits"]),
        ({"assets": {"a": entry(kind="path", path="x", sha256="abc")}}, ["assets.a.sources[0].sha256: 'abc'", "64"]),
        ({"assets": {"a": entry(kind="path", path=3)}}, ["assets.a.sources[0].path: 3 should be text"]),
        ({"assets": {"a": {**entry(kind="path", path="x"), "sizes": {"a": []}}}}, ["assets.a.sizes.a: []"]),
        ({"evaluation": {"texts": ["heldout"], "target_texts": ["wikitext2"]}}, ["'wikitext2' is not in"]),
        (
            {"depths": {"quick": {"extra_methods": ["knapsak"]}}},
            ["depths.quick.extra_methods: unknown method 'knapsak'", "did you mean 'knapsack'?"],
        ),
        ({"depths": {"quick": {"more_budgets": {"ramp": [9]}}}}, ["depths.quick.more_budgets.ramp[0]: 9 bits"]),
        ({"depths": {"quick": {"control_budgets": [9]}}}, ["depths.quick.control_budgets[0]: 9 bits is above"]),
        ({"depths": {"quick": {"tracks": {"q8_0": ["rtn-b4"]}}}}, ["'q8_0' is the study's own track"]),
        ({"depths": {"quick": {"tracks": {"fp16": ["rtm-b4"]}}}}, ["unknown method 'rtm'", "did you mean 'rtn'?"]),
        ({"depths": {"quick": {"tracks": {"fp8": []}}}}, ["fp8"]),
        ({"methods": ["rtn", "rtn"]}, ["methods: 'rtn' is listed twice"]),
        (variant("v", method="rampp"), ["variants.v.method: unknown method 'rampp'"]),
        (variant("ramp", method="ramp"), ["variants: 'ramp' is registered"]),
        (variant("v", method="ramp", methd="ramp"), ["unknown key 'methd' in 'variants.v'"]),
        (grid(methods=["ramp_unshapd"]), ["league.grids.a.methods: unknown method", "'ramp_unshaped'"]),
        (grid(methods=["ramp", "ramp"]), ["'ramp' is listed twice"]),
        (grid(models=["tiny-lama-s"]), ["unknown model 'tiny-lama-s'", "'tiny-llama-s'"]),
        (grid(budgets=[2.5]), ["league.grids.a.budgets[0]: 2.5 bits is below"]),
        (grid(budgets=[9]), ["league.grids.a.budgets[0]: 9 bits is above"]),
        (grid(checkpoints=[9, 3]), ["checkpoints: [9, 3] should rise"]),
        (
            {**grid(), "league": {"grids": {"a": GRID, "b": {**GRID, "budgets": [4.0], "search": {"windows": 64}}}}},
            ["league.grids.b.search: tiny-llama-s has another search text in grid 'a'"],
        ),
        (
            {"league": {**grid()["league"], "grid": {}}, "variants": VARIANT},
            ["unknown key 'grid' in 'league'", "'grids'"],
        ),
        (optimum(widths=[2, 4]), ["optimum.widths[0]: 2 is not in the study's widths"]),
        (optimum(budgets=[6.5]), ["optimum.budgets[0]: 6.5 bits is above"]),
        (optimum(count=9), ["optimum.count: 9"]),
        (ablation(folds=["none", "sq5"]), ["fold_ablation.folds: unknown fold 'sq5'", "'sq50'"]),
        (ablation(folds=["sq50", "awq"]), ["fold_ablation.folds: 'none' is missing"]),
        (ablation(methods=["rtm"]), ["fold_ablation.methods: unknown method 'rtm'", "'rtn'"]),
        (ablation(models=["tiny-lama-s"]), ["fold_ablation.models: unknown model 'tiny-lama-s'"]),
        (banks(draws=[1, 1]), ["banks.draws: '1' is listed twice"]),
        (banks(methods=["rampp"]), ["banks.methods: unknown method 'rampp'", "did you mean 'ramp'?"]),
        (banks(uniform=["gtpq-b4"]), ["banks.uniform: unknown method 'gtpq'", "did you mean 'gptq'?"]),
        (banks(budgets=[3.65, 7]), ["banks.budgets[1]: 7 bits is above"]),
        (banks() | {"evaluation": {"texts": ["wikitext2"], "target_texts": ["wikitext2"]}}, ["banks:", "'heldout'"]),
        (ablation(bits=[3, 3]), ["fold_ablation.bits: '3' is listed twice"]),
    ],
    ids=lambda value: json.dumps(value, default=str)[:40] if isinstance(value, dict) else "",
)
def test_each_fault_is_one_sentence_with_its_path(change: dict[str, Any], words: list[str]) -> None:
    lines = faults(change)
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0]


def test_a_menu_of_bits_and_groups() -> None:
    menu = ["3g-1", 3, "3g32", 4]
    assert validate({"study": "s", "source": "m", "widths": menu, "budgets": [3.5]}).widths == menu


def test_all_faults_are_told_at_once() -> None:
    """Misspelt keys, values out of range and names that nothing bears: one run shows every one of them."""
    change = {"modles": 1, "study": "a b", "source": "smolm2-135m", "methods": ["gtpq", "ramp"], "budgets": [2.0]}
    lines = faults({**change, "depths": {"quick": {"evals": -1}}, "folds": {"awq": {"kidn": 1}}})
    starts = ["study:", "source:", "methods:", "budgets[0]:", "depths.quick.evals:"]
    starts += ["unknown key 'kidn'", "unknown key 'modles'"]
    assert [sum(line.startswith(start) for line in lines) for start in starts] == [1] * len(lines)
    with pytest.raises(ConfigError) as caught:
        validate({})
    assert {line.split(":")[0] for line in str(caught.value).splitlines()} == {"study", "source"}  # what has no default


@given(st.sampled_from(sorted(Study.model_fields)), st.data())
def test_a_misspelt_key_is_never_accepted(key: str, data: st.DataObject) -> None:
    """One letter dropped anywhere: refused, and the sentence offers what difflib thinks nearest."""
    cut = data.draw(st.integers(0, len(key) - 1))
    wrong = key[:cut] + key[cut + 1 :]
    if wrong in Study.model_fields:
        return
    lines = faults({wrong: None})
    assert lines[0].startswith(f"unknown key '{wrong}' at top level")
    near = difflib.get_close_matches(wrong, sorted(Study.model_fields), n=1)
    assert not near or f"'{near[0]}'" in lines[0]


def test_validation_leaves_its_input_alone() -> None:
    values = {**GOOD, "modles": 1, "folds": {"awq": {"kidn": 1}}}
    before = copy.deepcopy(values)
    with pytest.raises(ConfigError):
        validate(values)
    assert values == before


def test_every_key_is_described() -> None:
    whole = schema()
    for name, section in {"Study": whole, **whole["$defs"]}.items():
        for key, value in section["properties"].items():
            is_section = "$ref" in value or "allOf" in value or any("$ref" in one for one in value.get("anyOf", []))
            assert value.get("description") or is_section, f"{name}.{key} has no docstring"


def test_the_schema_file_is_true() -> None:
    file = REPO / "workflow" / "schemas" / "config.schema.json"
    now = json.dumps(schema(), indent=2, sort_keys=True) + "\n"
    kept = file.read_text(encoding="utf-8")
    difference = "".join(
        difflib.unified_diff(kept.splitlines(True), now.splitlines(True), "kept", "ramp/study/__main__.py")
    )
    assert kept == now, f"{file.name} is out of date; cure: make schema\n{difference}"


def test_every_key_is_in_the_readme() -> None:
    text = (REPO / "config" / "README.md").read_text(encoding="utf-8")
    missing = [key for key in Study.model_fields if f"`{key}`" not in text]
    assert not missing, f"config/README.md does not explain {missing}"
