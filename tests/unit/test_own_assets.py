"""A model and texts that a configuration names by their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ramp.assets.disjoint_roles import parse, shares_of, write_texts
from ramp.assets.options import ROLES, own_entry
from ramp.assets.registry import Asset, load_registry
from ramp.assets.text_roles import main as text_roles
from ramp.core.errors import Faults, RampError
from ramp.export.write import export
from ramp.study.load import make_plan
from ramp.study.model_shape import shape_of
from ramp.study.own_assets import with_own_assets
from ramp.study.rule_inputs import RuleFiles
from ramp.study.rule_params import RuleValues
from ramp.study.validation import ConfigError
from tests.local_sources import fetched, write_registry
from tests.tiny_models import random_llama

REPO = Path(__file__).resolve().parents[2]
REGISTRY = REPO / "config" / "assets.yaml"
USED = ("calibration", "search", "selection", "heldout")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random_llama(tmp_path / "My Model")
    (tmp_path / "notes.txt").write_text("\n\n".join(f"Paragraph {i},\nin two lines." for i in range(400)) + "\n")
    return tmp_path


def study(**more: Any) -> dict[str, Any]:
    values = {"study": "mine", "source": "./My Model", "methods": ["rtn", "knapsack"], "tasks": {"names": []}}
    return values | {"halo": {"methods": []}, "texts": dict.fromkeys(USED, "./notes.txt")} | more


def test_paths_become_entries_and_their_names_stand_in_the_configuration(folder: Path) -> None:
    plan = make_plan(study(), REPO, REGISTRY)
    assert plan.study.source == "my-model"
    assert set(plan.study.texts.values()) == {"notes.txt"}
    assert plan.registry.get("my-model").sources[0].path == str(folder / "My Model")
    assert plan.registry.get("my-model").sizes["num_hidden_layers"] > 0
    assert plan.text_assets == ["notes.txt"], "no default text is fetched for a role that nobody reads"
    again = make_plan(plan.study.model_dump(mode="json"), REPO, REGISTRY)
    assert again.study == plan.study, "the written configuration gives the same study"


def test_a_study_that_trains_or_tunes_reads_the_role_train(folder: Path) -> None:
    tuned = study(tuning={"models": ["my-model"], "rows": ["rtn-b4"]})
    assert make_plan(study(), REPO, REGISTRY).unread_roles == ["train"]
    assert make_plan(tuned, REPO, REGISTRY).unread_roles == []
    assert make_plan(study(source="tiny-llama-s"), REPO, REGISTRY).unread_roles == []


def test_rules_hand_the_entries_to_their_stages(folder: Path) -> None:
    plan = make_plan(study(), REPO, REGISTRY)
    files = RuleFiles(plan, REPO, ".envs", str)
    values = RuleValues(files)
    [entry] = values.own_entry("my-model")
    name, given = own_entry(entry)
    expected = plan.registry.get("my-model").model_copy(update={"sizes": {}})
    assert (name, Asset.model_validate(given)) == ("my-model", expected)
    assert values.own_entry("smollm2-135m") == []
    assert files.own_file("notes.txt") == [str(folder / "notes.txt")], "an edit of the text reads it again"
    parts = [Path(name) for name in files.own_file("my-model")]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {part.name for part in parts}
    assert len({part.parent for part in parts}) == 1, "an edit of the model imports it again"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"source": "./nowhere"}, "source: there is nothing at"),
        ({"source": "~no-such-user/model"}, "home of a user that this machine does not have"),
        ({"source": "."}, r"source: '\.' is not allowed"),
        ({"source": "./notes.txt"}, r"holds no config\.json"),
        ({"texts": {"heldout": "./My Model"}}, "no text file"),
        ({"targets": ["./My Model", "./other/My Model"]}, "same last name"),
        ({"source": "my-modle"}, "path of its folder"),
    ],
)
def test_what_is_no_model_or_text_is_refused_before_anything_is_planned(
    folder: Path, change: dict[str, Any], match: str
) -> None:
    (folder / "other").mkdir()
    random_llama(folder / "other" / "My Model")
    with pytest.raises((RampError, ConfigError), match=match):
        make_plan(study(**change), REPO, REGISTRY)


def test_rows_that_no_group_divides_are_refused_before_anything_is_planned(folder: Path) -> None:
    shape = {"hidden_size": 100, "num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": 20}
    random_llama(folder / "odd", **shape)
    with pytest.raises(RampError, match=r"group_size: model 'odd': rows of 100 weights .* -1"):
        make_plan(study(source="./odd"), REPO, REGISTRY)
    with pytest.raises(RampError, match=r"widths, 3g32: model 'odd': rows of 100 weights"):
        make_plan(study(source="./odd", group_size=-1, widths=["3g32", 4]), REPO, REGISTRY)
    assert make_plan(study(source="./odd", group_size=-1), REPO, REGISTRY).models == ["odd"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_has_the_sizes_of_the_checkpoint_that_it_was_made_from(folder: Path, tied: bool) -> None:
    random_llama(folder / "whole", tied=tied)
    export(folder / "whole", folder / "one.gguf")
    sizes = []
    for name in ("one.gguf", "whole"):
        plan = make_plan(study(source=f"./{name}"), REPO, REGISTRY)
        shape = shape_of(name, plan.registry, folder / "results")
        sizes.append((shape.linears, shape.table_params, shape.max_position_embeddings, shape.float_bytes))
    assert sizes[0] == sizes[1]
    (folder / "one.gguf").write_bytes(b"no GGUF file")
    plan = make_plan(study(source="./one.gguf"), REPO, REGISTRY)  # every reading of the workflow; it opens no such file
    with pytest.raises(RampError, match=r"one\.gguf is not a readable GGUF file"):
        shape_of("one.gguf", plan.registry, folder / "results")


def test_names_stay_names() -> None:
    values = {"source": "smollm2-135m", "targets": ["a"], "texts": {"search": "my-text"}}
    assert with_own_assets(values, Faults()) == values
    odd = {"source": 3, "targets": "x", "texts": None}
    assert with_own_assets(odd, Faults()) == odd


def test_a_path_with_nothing_at_it_is_told_once_and_with_all_others(folder: Path) -> None:
    change = {"source": "./nope", "targets": ["./nor", "qwen2.5-coder-0.5b"], "bogus": 1}
    with pytest.raises(ConfigError) as caught:
        make_plan(study(**change, texts={"search": "./neither.txt"}), REPO, REGISTRY)
    starts = sorted(line.partition("/")[0] for line in str(caught.value).splitlines())
    nothing = "there is nothing at "
    assert starts[:3] == [f"source: {nothing}", f"targets: {nothing}", f"texts.search: {nothing}"]
    assert len(starts) == 4
    assert starts[3].startswith("unknown key 'bogus'")


def test_plain_text_is_divided_by_blank_lines(folder: Path) -> None:
    text = make_plan(study(), REPO, REGISTRY).registry.get("notes.txt").text
    assert text
    documents = parse(folder / "notes.txt", text)
    assert len(documents) == 400
    assert documents[1].text == "Paragraph 1,\nin two lines."


def test_one_text_for_several_roles_is_divided_among_them(folder: Path) -> None:
    registry = make_plan(study(), REPO, REGISTRY).registry
    named = dict.fromkeys(USED, "notes.txt")
    assert shares_of(registry, named, ["train"]) == {"notes.txt": dict.fromkeys(USED, 0.25)}
    assert "wikipedia-sample" in shares_of(registry, named), "whose documents train"
    fetched(registry, "notes.txt", folder)
    report = write_texts(registry, folder / "R", [], folder / "texts", named, ["train"])
    counts = {role: found["documents"] for role, found in report["roles"].items()}
    assert set(counts) == set(ROLES)
    assert counts["train"] == 0
    assert sum(counts.values()) == 400
    assert min(counts[role] for role in USED) > 60
    assert (folder / "texts" / "train.jsonl").read_text() == ""


def test_the_stage_takes_entries_that_no_registry_has(folder: Path) -> None:
    registry = write_registry(folder, {})
    asset = Asset.model_validate(with_own_assets(study(), Faults())["assets"]["notes.txt"])
    fetched(registry.with_own({"notes.txt": asset}), "notes.txt", folder)
    roles = [f"{role}=notes.txt" for role in USED]
    options = ["--assets", "R", "--out", "out", "--entry", f"notes.txt={asset.model_dump_json()}", "--role", *roles]
    text_roles(["--registry", str(registry.file), *options])
    assert (folder / "out" / "heldout.jsonl").stat().st_size > 1000
    for entry in ("notes.txt", "notes.txt={", "=x"):
        with pytest.raises(SystemExit):
            text_roles(["--assets", "R", "--out", "out", "--entry", entry])
    with pytest.raises(RampError, match=r"entry notes.*sources: missing"):
        text_roles(["--registry", str(registry.file), "--assets", "R", "--out", "out", "--entry", "notes.txt={}"])


def test_a_file_of_ones_own_may_change_and_is_not_locked(folder: Path) -> None:
    registry = load_registry(REGISTRY)
    own = write_registry(folder, {}).with_own(
        {"notes.txt": Asset.model_validate(with_own_assets(study(), Faults())["assets"]["notes.txt"])}
    )
    first = fetched(own, "notes.txt", folder / "a")
    (folder / "notes.txt").write_text("Other words.\n")
    assert fetched(own, "notes.txt", folder / "b")["sha256"] != first["sha256"]
    assert not own.file.with_name(f"{own.file.stem}.lock.yaml").exists()
    assert "notes.txt" not in registry.assets
