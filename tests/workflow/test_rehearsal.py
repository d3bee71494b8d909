"""The paper's own study, from a model hub to paper.pdf: its configuration shrunk, its models replaced by replicas.

pytest tests/workflow/test_rehearsal.py                    the source and one target: 75 jobs, two minutes
REHEARSAL=whole pytest tests/workflow/test_rehearsal.py    every model, method and row: 262 jobs, ten minutes
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from calls import Done, snakemake
from conftest import copy_project

from ramp.assets.registry import load_registry
from tests.hub import Hub
from tests.replicas import REPLICAS, TOKEN, serve
from tests.sealed import read_json
from workflow.scripts.check_results import check

pytestmark = pytest.mark.slow

WHOLE = os.environ.get("REHEARSAL") == "whole"
SMALL: dict[str, Any] = {
    "targets": ["llama-3-8b"],
    "methods": ["gptq", "awq", "knapsack", "ramp"],
    "uniform_bits": [4],
    "budgets": [3.65],
    "tasks": {"names": ["piqa"]},
    "transfer": {"methods": ["ramp"], "uniform": ["gptq-b4"], "rivals": ["knapsack"]},
    "halo": {"methods": ["ramp"]},
    "depths": {
        "full": {
            "extra_methods": ["q4_k_m"],
            "control_budgets": [],
            "tracks": {"q8_0": ["ramp-b3.65"]},
            "task_rows": ["float-b16"],
        }
    },
}
TARGETS = [name for name in REPLICAS if name != "llama-2-7b"] if WHOLE else SMALL["targets"]
ONE_LICENCE = "hf_one_licence"


@dataclass
class Rehearsal:
    """A checkout without results, and a hub that has replicas of the study's models."""

    folder: Path
    hub: Hub

    def run(self, *arguments: str, token: str = TOKEN, timeout: float = 300) -> Done:
        files = ["config/paper.yaml", "config/rehearsal.yaml", *([] if WHOLE else ["config/small.yaml"])]
        hub = self.hub.environment(self.folder / "hub-cache", token)
        return snakemake(self.folder, "--configfile", *files, *arguments, timeout=timeout, hub=hub)

    @property
    def results(self) -> Path:
        return self.folder / "results" / "rehearsal"


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    folder = copy_project(tmp_path_factory.mktemp("rehearsal") / "checkout")
    (folder / "config" / "small.yaml").write_text(yaml.safe_dump(SMALL))
    assets = folder / "config" / "assets.yaml"
    entries = yaml.safe_load(assets.read_text())
    for name, replica in REPLICAS.items():  # the plan reads sizes before anything is downloaded
        entries["assets"][name]["sizes"] |= {**replica.sizes, "vocab_size": 2000}
    assets.write_text(yaml.safe_dump(entries, sort_keys=False))
    registry = load_registry(assets)
    with Hub() as hub:
        serve(hub, registry, folder.parent / "repositories", ["llama-2-7b", *TARGETS])
        hub.allow(registry.get("llama-2-7b").sources[0].repo, ONE_LICENCE)
        yield Rehearsal(folder, hub)


@pytest.fixture(scope="module")
def finished(rehearsal: Rehearsal) -> Path:
    """The results of the whole run."""
    done = rehearsal.run("--cores", "all", timeout=7200 if WHOLE else 1500)
    assert done.status == 0, done.text[-8000:]
    return rehearsal.results


def test_a_token_for_the_source_alone_stops_the_study_before_its_first_job(rehearsal: Rehearsal) -> None:
    done = rehearsal.run("--cores", "1", token=ONE_LICENCE)
    assert done.status != 0
    assert "llama-3-8b: meta-llama/Meta-Llama-3-8B is gated" in done.text
    assert "llama-2-7b: " not in done.text
    assert "--config 'targets=[" in done.text
    assert not (rehearsal.results / "config.json").exists()


def test_without_the_target_that_is_gated_the_study_can_start(rehearsal: Rehearsal) -> None:
    """The sentence of the test above is followed; asked for is one job, so that it is no whole study.

    Its download fails once as a whole, with two damaged copies of a file: the job is tried again.
    """
    kept = [name for name in TARGETS if not name.startswith("llama")]
    reduced = f"targets=[{','.join(kept)}]"
    one_job = "results/rehearsal/assets/llama-2-7b/asset.json"
    rehearsal.hub.faults.corrupt["config.json"] = 2
    done = rehearsal.run("--cores", "1", "--config", reduced, "--", one_job, token=ONE_LICENCE)
    assert done.status == 0, done.text[-4000:]
    assert rehearsal.hub.faults.corrupt["config.json"] == 0
    assert "another checksum than the hub publishes" in done.text
    planned = rehearsal.run("-n", "--config", reduced)
    assert planned.status == 0, planned.text
    assert planned.plan["model"] == 1 + len(kept)


def test_a_paper_came_out(finished: Path) -> None:
    assert (finished / "paper" / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert (finished / "report.html").is_file()


def test_every_check_holds(finished: Path) -> None:
    """Sizes, perplexities and llama.cpp's own reading of every exported file."""
    found = check(finished)
    assert [one for one in found if not one["ok"]] == []
    assert any(one["check"].startswith("halo") for one in found)


def test_the_claims_on_perplexity_and_size_are_judged(finished: Path) -> None:
    """A number from rows for each: perplexity at a size, against AWQ and GPTQ, transfer, export. It means nothing."""
    from ramp.records.table import read_claims

    claims = {claim["id"]: claim for claim in read_claims(finished / "records" / "claims.json")}
    for name in ("C1", "C2", "C3", "C4", "C8"):
        assert claims[name]["verdict"] != "not tested", claims[name]
        assert claims[name]["value"] > 0, claims[name]
        assert claims[name]["rows"], claims[name]


def test_models_came_from_the_hub_as_they_are_there(rehearsal: Rehearsal, finished: Path) -> None:
    registry = load_registry(rehearsal.folder / "config" / "assets.yaml")
    locked = yaml.safe_load((rehearsal.folder / "config" / "assets.lock.yaml").read_text())
    for name in ("llama-2-7b", *TARGETS):
        source = registry.get(name).sources[0]
        record = read_json(finished / "assets" / name / "asset.json")
        assert record["revision"] == source.revision
        assert record["sha256"] == locked[name][source.repo]["sha256"]
        linked = {file.name for file in (finished / "models" / name).iterdir()}
        assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= linked
    assert not [one for one in rehearsal.hub.requests if one.path.endswith((".bin", ".pth"))]
