"""Messages to the paper's study before its first job, by a stand-in for the hub that gates as the hub does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from ramp.assets.registry import HubSource
from ramp.study.preflight import PreflightError, preflight
from tests.hub import Hub
from tests.plans import plan_of


def hub_sources(registry: Any) -> dict[str, HubSource]:
    found = {name: asset.sources[-1] for name, asset in registry.assets.items()}
    return {name: source for name, source in found.items() if isinstance(source, HubSource)}


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hub, Any, Any]]:
    """The paper's study, and a hub that has its models at their commits: Meta's gated, each by a token of its own."""
    (tmp_path / "files").mkdir()
    plan = plan_of("paper.yaml")
    study = plan.study.model_copy(update={"results": str(tmp_path / "results")})
    with Hub() as hub:
        for name, source in hub_sources(plan.registry).items():
            tokens = ["hf_all", f"hf_{name}"] if "meta-llama" in source.repo else None
            hub.add(source.repo, tmp_path / "files", kind=source.repo_type, commit=source.revision, tokens=tokens)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        yield hub, study, plan.registry


def start(paper: tuple[Hub, Any, Any]) -> str:
    """Return what stops the study, or nothing."""
    _, study, registry = paper
    try:
        preflight(study, registry, jobs_run_here=True, gpu=lambda: True)
    except PreflightError as error:
        return str(error)
    return ""


def test_a_token_for_everything_starts_the_study(paper: tuple[Hub, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_all")
    assert start(paper) == ""


def test_a_token_for_one_of_the_gated_models_does_not(
    paper: tuple[Hub, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_llama-2-7b")
    said = start(paper).splitlines()
    assert [line.split(":")[0].strip() for line in said[1:-1]] == ["llama-2-13b", "llama-3-8b"]
    assert all("has no access: ask for it at https://huggingface.co/meta-llama/" in line for line in said[1:-1])
    assert said[-1].endswith("'targets=[mistral-7b-v0.1]'")


def test_without_a_token_the_licences_are_named(paper: tuple[Hub, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    said = start(paper)
    assert said.count("accept its licence at https://huggingface.co/meta-llama/") == 3


def test_a_commit_that_the_hub_does_not_have_stops_the_study(
    paper: tuple[Hub, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_all")
    hub, _, registry = paper
    mistral = registry.get("mistral-7b-v0.1").sources[0]
    hub.add(mistral.repo, hub.repositories["models", mistral.repo].folder, commit="d" * 40)
    assert f"mistral-7b-v0.1: {mistral.repo} has no commit {mistral.revision}" in start(paper)


def test_without_a_network_the_study_does_not_start(
    paper: tuple[Hub, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "mistral-7b-v0.1: mistralai/Mistral-7B-v0.1 cannot be reached" in start(paper)
