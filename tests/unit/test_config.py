"""The configuration: defaults, every fault at once with its path and nearest name, files and schema that stay true."""

from __future__ import annotations

import copy
import difflib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramp.study.config import Study, schema
from ramp.study.validation import ConfigError, read, validate

REPO = Path(__file__).resolve().parents[2]
FILES = sorted(file for file in (REPO / "config").glob("*.yaml") if not file.name.startswith("assets"))
METHODS = ["rtn", "gptq", "awq", "awq_gptq", "knapsack", "random_search", "role_depth", "ramp_paper", "ramp"]
MODELS = ["smollm2-135m", "qwen2.5-coder-0.5b", "tiny-llama-s"]
GOOD: dict[str, Any] = {"study": "test", "source": "smollm2-135m", "targets": ["qwen2.5-coder-0.5b"]}


def faults(change: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate({**copy.deepcopy(GOOD), **change}, methods=METHODS, models=MODELS)
    return str(caught.value).splitlines()


def test_a_small_configuration_has_all_defaults() -> None:
    study = validate(GOOD, methods=METHODS, models=MODELS)
    assert study.widths == [3, 4, 5, 6]
    assert study.limits.evals == 100
    assert study.target_budgets == study.source_budgets == study.budgets


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_shipped_configuration_is_valid(file: Path) -> None:
    from ramp.assets.registry import load_registry
    from ramp.methods.loader import discover

    models = load_registry(REPO / "config" / "assets.yaml").of_type("model")
    study = validate(read(file), methods=discover(REPO / "baselines"), models=models)
    assert set(study.depths) - {"wide", "exhaustive"} == {"quick", "full"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modles": 1}, ["unknown key 'modles' at top level", "did you mean"]),
        ({"budget": [4.0]}, ["unknown key 'budget'", "did you mean 'budgets'?"]),
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
        ({"depths": {"quick": {"windows": -2}}}, ["depths.quick.windows: -2"]),
        ({"calibration": {"tokens": 0}}, ["calibration.tokens: 0"]),
        ({"widths": [4, 3]}, ["widths: [4, 3] should rise"]),
        ({"widths": [3, 9]}, ["widths[1]: 9"]),
        ({"widths": [3, "4g"]}, ["widths[1]: '4g' is not a width", "4g32"]),
        ({"widths": [3, None]}, ["widths[1]: None should be bits"]),
        ({"widths": [3, "3g64", "3g256", 4]}, ["should rise and repeat nothing: ['3g256', 3, '3g64', 4]"]),
        ({"widths": [3, "3g128", 4]}, ["should rise and repeat nothing: [3, 4]"]),
        ({"widths": ["3g32", "5g32"], "budgets": [5.5]}, ["above the dearest width of the menu, 5"]),
        ({"study": "../up"}, ["study: '../up' is not allowed"]),
        ({"study": "a b"}, ["study: 'a b' is not allowed"]),
        ({"results": "../elsewhere"}, ["results: '../elsewhere' is not allowed"]),
        ({"results": "a; rm"}, ["results: 'a; rm' is not allowed"]),
        ({"methods": ["../ramp"]}, ["methods[0]: '../ramp' is not allowed"]),
        ({"params": {"../x": {}}}, ["'../x' is not allowed"]),
        ({"device": "gpu"}, ["device: 'gpu' is not allowed"]),
        ({"evaluation": {"texts": ["heldout"], "target_texts": ["wikitext2"]}}, ["'wikitext2' is not in"]),
        (
            {"depths": {"quick": {"extra_methods": ["knapsak"]}}},
            ["depths.quick.extra_methods: unknown method 'knapsak'", "did you mean 'knapsack'?"],
        ),
        ({"depths": {"quick": {"more_budgets": {"ramp": [9]}}}}, ["depths.quick.more_budgets.ramp[0]: 9 bits"]),
        ({"depths": {"quick": {"more_budgets": {"rmap": [4]}}}}, ["depths.quick.more_budgets: unknown method 'rmap'"]),
        ({"depths": {"quick": {"control_budgets": [9]}}}, ["depths.quick.control_budgets[0]: 9 bits is above"]),
        ({"depths": {"quick": {"tracks": {"q8_0": ["rtn-b4"]}}}}, ["'q8_0' is the study's own track"]),
        ({"depths": {"quick": {"tracks": {"fp16": ["rtm-b4"]}}}}, ["unknown method 'rtm'", "did you mean 'rtn'?"]),
        ({"depths": {"quick": {"tracks": {"fp8": []}}}}, ["fp8"]),
        ({"methods": ["rtn", "rtn"]}, ["methods: 'rtn' is listed twice"]),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_each_fault_is_one_sentence_with_its_path(change: dict[str, Any], words: list[str]) -> None:
    lines = faults(change)
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0]


def test_a_menu_of_bits_and_groups() -> None:
    menu = ["3g-1", 3, "3g32", 4]
    assert validate({"study": "s", "source": "m", "widths": menu, "budgets": [3.5]}).widths == menu


def test_missing_keys_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        validate({})
    assert {line.split(":")[0] for line in str(caught.value).splitlines()} == {"study", "source"}


def test_all_faults_are_told_at_once() -> None:
    """Misspelt keys, values out of range and names that nothing bears: one run shows every one of them."""
    lines = faults(
        {
            "modles": 1,
            "study": "a b",
            "source": "smolm2-135m",
            "methods": ["gtpq", "ramp"],
            "budgets": [2.0],
            "depths": {"quick": {"evals": -1}},
            "folds": {"awq": {"kidn": 1}},
        }
    )
    starts = [
        "study:",
        "source:",
        "methods:",
        "budgets[0]:",
        "depths.quick.evals:",
        "unknown key 'kidn'",
        "unknown key 'modles'",
    ]
    for start in starts:
        assert sum(line.startswith(start) for line in lines) == 1, (start, lines)
    assert len(lines) == len(starts)


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
