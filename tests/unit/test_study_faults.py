"""Faults between a configuration, the registry, the methods and the project's folders: told together, before anything
is planned."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ramp.core import cli
from ramp.core.errors import RampError
from ramp.plan.__main__ import main as plan_main
from ramp.study.check_command import main as check
from ramp.study.load import make_plan, registry_of
from ramp.study.planned_rows import Plan
from ramp.study.results_folder import SOURCES
from ramp.study.validation import ConfigError
from tests.plans import REPO, plan_of, study_of

BARE: dict[str, Any] = dict.fromkeys(("league", "optimum", "fold_ablation", "banks")) | {
    "source": "smollm2-135m",
    "targets": [],
    "tuning": {},
    "gguf": {},
    "noise": {},
}
"""A study of a model that is not trained here."""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"halo": {"methods": ["rtn"]}}, r"halo\.methods: 'rtn' has no allocation"),
        ({"tasks": {"names": ["piqqa"]}}, r"tasks\.names: .*'piqqa'.*'piqa'"),
        ({"evaluation": {"texts": ["heldout", "wikitxt2"]}}, r"evaluation\.texts: .*'wikitext2'"),
        ({"evaluation": {"texts_if_local": ["wikitxt2"]}}, r"evaluation\.texts_if_local: .*'wikitext2'"),
        ({"evaluation": {"texts": ["heldout", "c4-sample"]}}, "'c4-sample' has roles"),
        ({"texts": {"calibration": "tiny-llama-s"}}, r"texts\.calibration: unknown text"),
        ({"transfer": {"uniform": ["ramp-b3.65"]}}, r"transfer\.uniform: 'ramp-b3\.65'"),
        ({"transfer": {"uniform": ["rtn-b3.5"]}}, r"transfer\.uniform: 'rtn-b3\.5'"),
        ({"transfer": {"uniform": ["float-b16"]}}, r"transfer\.uniform: 'float-b16'"),
        ({"transfer": {"rivals": ["rtn"]}}, r"transfer\.rivals: 'rtn'"),
        ({"budgets": [3.65, 3.6500001]}, r"budgets\[1\]: 3\.6500001 has more digits"),
        ({"budgets": [3.65, 3.65]}, r"budgets\[1\]: 3\.65 bits are listed twice"),
        ({"methods": ["released", "rtn"]}, "unknown method 'released'"),
        ({"external": ["float"]}, "unknown method 'float'"),
        ({"results": "Snakefile"}, "Snakefile is a file"),
        ({"results": "README.md/x"}, "README.md is a file"),
        ({"results": "ramp/x"}, "lies in ramp/"),
        ({"results": "~/x"}, f"results: '~/x' .* write '{Path.home()}/x'"),
        ({"results": "$HOME/x"}, f"write '{Path.home()}/x'"),
        ({"results": "x" * 300}, "results: .* name another one"),
        ({"results": "results/published"}, "lies in results/published/"),
        ({"results": str(REPO)}, "holds the project"),
        ({"results": str(REPO.parent)}, "holds the project"),
        ({"params": {"ramp": {"gama": 1}, "knapsack": {"x": 2}}}, r"'ramp': .*'gama'.*\n.*'knapsack': .*'x'"),
        ({"deterministic": ["knapsak"]}, r"deterministic: unknown method 'knapsak' \(did you mean 'knapsack'"),
        (
            {"variants": {"v": {"method": "rtn", "params": {"x": 1}}, "w": {"method": "ramp", "params": {"gama": 1}}}},
            r"variant 'v': .*'x'.*\nvariant 'w': .*'gama'",
        ),
    ],
)
def test_each_is_refused(change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    with pytest.raises(RampError, match=words):
        plan_of("smoke.yaml", **change)


def test_a_name_of_something_in_this_folder_is_told_as_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("My-Model", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    for name in ("My-Model", "mine"):
        with pytest.raises(ConfigError, match=rf"source: .*write \./{name}$"):
            plan_of("smoke.yaml", **BARE | {"source": name})
    with pytest.raises(ConfigError, match=r"texts\.heldout: .*write \./notes\.txt$"):
        plan_of("smoke.yaml", texts={"heldout": "notes.txt"})
    with pytest.raises(ConfigError, match="give the path of its folder"):
        plan_of("smoke.yaml", **BARE | {"source": "Owner/Model"})


def test_all_kinds_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    change = {"methods": ["rtn", "gtpq"], "results": "ramp", "halo": {"methods": ["rtn"]}, "tasks": {"names": ["x"]}}
    with pytest.raises(ConfigError) as caught:
        make_plan(study_of("smoke.yaml") | change | {"budgets": "3"}, REPO, REPO / "none.yaml")
    found = str(caught.value).splitlines()
    for words in ("no asset registry", "'gtpq'", "budgets: ", "results: 'ramp'", "halo.methods: 'rtn'"):
        assert any(words in line for line in found), found


def test_rows_that_are_not_there_are_told_beside_an_unknown_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    depths = study_of("smoke.yaml")["depths"]
    depths["quick"] |= {"task_rows": ["rtn-b7"], "tracks": {"fp16": ["gptq-b7"]}}
    variants = {"v": {"method": "rtn", "params": {"x": 1}}}
    with pytest.raises(ConfigError) as caught:
        plan_of("smoke.yaml", bogus=1, depths=depths, variants=variants, tasks={"names": ["piqa"]})
    found = str(caught.value).splitlines()
    assert len(found) == 4
    for words in ("unknown key 'bogus'", "variant 'v'", "task_rows: the study has no row 'rtn-b7'", "no row 'gptq-b7'"):
        assert any(words in line for line in found), found


def test_a_row_that_another_fault_takes_away_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Widths that cannot be read, or stand under a misspelt key, leave the default ones in their place."""
    monkeypatch.chdir(REPO)
    depths = study_of("smoke.yaml")["depths"]
    depths["quick"] |= {"task_rows": ["rtn-b7"]}
    for key, told in (("uniform_bits", "uniform_bits: "), ("uniform_bit", "unknown key 'uniform_bit'")):
        with pytest.raises(ConfigError) as caught:
            plan_of("smoke.yaml", depths=depths, tasks={"names": ["piqa"]}, **{key: [7] if key[-1] == "t" else "7"})
        assert str(caught.value).startswith(told)
        assert "\n" not in str(caught.value)


def test_files_are_checked_before_snakemake_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file that cannot be read is told, none is evaluated, and what is right is planned."""
    given = {
        "missing.yaml": None,
        "latin.yaml": "study: \u00e9\n".encode("latin-1"),
        "tab.yaml": b"study: x\n\tresults: y\n",
        "code.yaml": b"__use_yte__: true\nstudy: ?open('ran', 'w').close()\n",
        "list.yaml": b"- a\n",
    }
    for name, content in given.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    assert cli.run(check, ["--configfile", *(str(tmp_path / name) for name in given)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [any(name in line for line in lines) for name in given] == [True] * len(given)
    assert any("tab.yaml, line 2" in line for line in lines)
    assert len(lines) == len(given)
    assert not Path("ran").exists()
    for name in given:
        with pytest.raises(RampError, match=re.escape(name)):
            plan_main(["--configfile", str(tmp_path / name)])
    assert cli.run(check, ["--configfile", str(REPO / "config" / "smoke.yaml"), "--config", "bogus=1"]) == 2
    assert "unknown key 'bogus'" in capsys.readouterr().err
    assert cli.run(check, ["--configfile", str(REPO / "config" / "smoke.yaml")]) == 0
    assert "no fault: study 'smoke'" in capsys.readouterr().out


def planned(tmp_path: Path, assets: dict[str, Any], **change: Any) -> Plan:
    (tmp_path / "assets.yaml").write_text(yaml.safe_dump({"assets": assets}))
    return make_plan(study_of("smoke.yaml") | change, REPO, tmp_path / "assets.yaml")


def test_an_own_registry_needs_what_the_study_reads_alone(tmp_path: Path) -> None:
    assets = yaml.safe_load((REPO / "config" / "assets.yaml").read_text())["assets"]
    del assets["wikitext2"]
    assets["wikipedia-sample"]["text"]["roles"] = {"search": 0.2, "selection": 0.2, "heldout": 0.6}
    plan = planned(tmp_path, assets, **BARE, evaluation={"length": 256})
    assert plan.extra_texts == []
    with pytest.raises(ConfigError, match=r"role 'train', and tiny-llama-\w is trained on it.*texts: \{train: NAME\}"):
        planned(tmp_path, assets)
    assets["wikipedia-sample"]["text"]["roles"] = {"train": 0.5, "selection": 0.5}
    with pytest.raises(ConfigError, match=r"role 'search'.*\n.*role 'heldout'"):
        planned(tmp_path, assets)


@pytest.mark.parametrize("registry", [5, ["a"], None])
def test_a_registry_that_is_no_path_is_told_with_the_rest(registry: Any) -> None:
    values = study_of("smoke.yaml") | {"registry": registry}
    with pytest.raises(ConfigError, match=r"^registry.* (should be|is empty)"):
        make_plan(values, REPO, REPO / registry_of(values))


def test_results_may_lie_in_folders_of_any_name_but_no_pattern(tmp_path: Path) -> None:
    assert plan_of("smoke.yaml", results=f"{tmp_path}/my 'results' é$(x)").study.results.endswith("$(x)")
    for name in ("a{b}", "a/../b", "-a", "a*", "a=b", "a,b", "a\nb", "a//b", "<a>"):
        with pytest.raises(ConfigError, match=r"results: .* is not allowed"):
            plan_of("smoke.yaml", results=name)


def test_every_folder_of_the_project_is_kept_from_results() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    folders = {line.partition("/")[0] for line in listed.stdout.splitlines() if "/" in line} - {"results"}
    assert folders
    assert folders <= set(SOURCES)
