"""requirements.lock, pyproject.toml, environment.yml and workflow/envs/ agree, and name the user's packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from workflow.scripts.make_environment import canonical, closure, conda_text, wanted

REPO = Path(__file__).resolve().parents[2]
USERS_PACKAGES = "snakemake torch transformers datasets lm-eval auto-gptq autoawq gguf pandas matplotlib pytest".split()
CURE = "cure: make lock, in an environment that passes the tests"


def locked() -> dict[str, Requirement]:
    lines = (REPO / "requirements.lock").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(one.name): one for one in found}


def conda_files() -> dict[str, dict]:
    files = [REPO / "environment.yml", *sorted((REPO / "workflow" / "envs").glob("*.yml"))]
    return {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}


def pip_lines(environment: dict) -> list[str]:
    return [line for part in environment["dependencies"] if isinstance(part, dict) for line in part["pip"]]


def test_the_lock_pins_one_version_of_everything() -> None:
    for name, requirement in locked().items():
        assert re.fullmatch(r"==[0-9][0-9A-Za-z.!]*", str(requirement.specifier)), f"{name}: {requirement}"
        assert requirement.marker is None
        assert requirement.url is None  # no folder, no address; and no local version, which one machine alone has


def test_the_lock_holds_all_that_pyproject_needs() -> None:
    missing = sorted({canonical(Requirement(line).name) for line in wanted(REPO / "pyproject.toml")} - set(locked()))
    assert not missing, f"requirements.lock lacks {missing}; {CURE}"


def test_the_lock_holds_nothing_else() -> None:
    """Every locked package is needed, at the version that is installed where the tests run."""
    needed = closure(wanted(REPO / "pyproject.toml"))
    pinned = {name: str(one.specifier).removeprefix("==") for name, one in locked().items()}
    assert set(pinned) - set(needed) == set(), CURE
    different = {name: (pinned[name], needed[name]) for name in pinned if pinned[name] != needed[name]}
    assert not different, f"(locked, installed): {different}; {CURE}"


def test_the_python_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["requires-python"] == ">=3.11,<3.12"
    assert project["tool"]["ruff"]["target-version"] == "py311"
    for name, environment in conda_files().items():
        assert "python=3.11" in environment["dependencies"], name


def test_environment_yml_is_what_the_script_writes() -> None:
    assert (REPO / "environment.yml").read_text(encoding="utf-8") == conda_text(), CURE
    assert pip_lines(conda_files()["environment.yml"]) == ["-r requirements.lock"]


@pytest.mark.parametrize("name", sorted(conda_files()))
def test_every_environment_is_pinned(name: str) -> None:
    for line in pip_lines(conda_files()[name]):
        if line.startswith("-r "):
            base = REPO if name == "environment.yml" else REPO / "workflow" / "envs"
            assert (base / line.removeprefix("-r ")).resolve() == REPO / "requirements.lock"
        elif line.startswith("-c "):
            assert line == f"-c {name.removesuffix('.yml')}.constraints.txt"
            assert (REPO / "workflow" / "envs" / line.removeprefix("-c ")).is_file()
        else:
            assert str(Requirement(line).specifier).startswith("=="), f"{name}: {line} is not pinned"


def test_the_users_packages_are_there() -> None:
    """Each is pinned in the lock or in an environment of its own, and environment.yml says so."""
    lines = [line for env in conda_files().values() for line in pip_lines(env) if line[0] != "-"]
    assert set(USERS_PACKAGES) <= set(locked()) | {canonical(Requirement(line).name) for line in lines}
    text = (REPO / "environment.yml").read_text(encoding="utf-8")
    assert [package for package in USERS_PACKAGES if package not in text] == []
