"""requirements.lock, pyproject.toml, environment.yml and workflow/envs/ agree, and name the user's packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from workflow.scripts.make_environment import CONDA_FILES, canonical, closure, conda_text, hashes_of, lock_text, wanted

REPO = Path(__file__).resolve().parents[2]
USERS_PACKAGES = "snakemake torch transformers datasets lm-eval auto-gptq autoawq gguf pandas matplotlib pytest".split()
LOCKS = ("requirements.lock", "torch.lock")
CURE = "cure: make lock, in an environment that passes the tests"


def entries(file: str) -> list[str]:
    """The requirements of a lock, each with its hashes on one line."""
    text = (REPO / file).read_text(encoding="utf-8").replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def locked() -> dict[str, Requirement]:
    found = [Requirement(line.partition("--hash")[0]) for file in LOCKS for line in entries(file)]
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


def test_every_file_but_those_of_torch_has_its_hash() -> None:
    for line in entries("requirements.lock"):
        assert re.fullmatch(r"\S+==\S+( +--hash=sha256:[0-9a-f]{64})+ *", line), line
    [torch] = entries("torch.lock")
    assert re.fullmatch(r"torch==[0-9.]+", torch)


def test_hashes_are_those_of_files_that_this_python_can_install() -> None:
    names = {
        "foo-1.0-py3-none-any.whl": "a", "foo-1.0-cp311-cp311-win_amd64.whl": "b",
        "foo-1.0-cp38-abi3-linux_x86_64.whl": "c", "foo-1.0-cp312-cp312-linux_x86_64.whl": "d",
        "foo-1.0-cp310-cp310-linux_x86_64.whl": "e", "foo-1.1-py3-none-any.whl": "f",
        "foo-1.0.tar.gz": "g", "foo-1.0.win32.exe": "h", "foo-1.0-py2-none-any.whl": "i",
    }  # fmt: skip
    files = [{"filename": name, "hashes": {"sha256": digest}} for name, digest in names.items()]
    assert hashes_of(files, "1.0") == ["a", "b", "c"]
    assert hashes_of(files[6:], "1.0") == ["g"]
    with pytest.raises(LookupError, match=r"foo==2\.0"):
        lock_text({"foo": "2.0"}, {"foo": hashes_of(files, "2.0")})


def test_packages_come_from_one_index_and_actions_at_one_commit() -> None:
    """A second index may serve another file under a name; a tag may be moved."""
    for file in [*(REPO / ".github" / "workflows").glob("*.yml"), REPO / ".ci" / "run", REPO / "install"]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"extra[-_]index", text, re.IGNORECASE), file.name
        for used in re.findall(r"uses: *(\S+)", text):
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", used), f"{file.name}: {used}"
    script = (REPO / "install").read_text(encoding="utf-8")
    assert 'install --quiet --require-hashes --no-deps -r "$here/requirements.lock"' in script


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


@pytest.mark.parametrize("file", CONDA_FILES)
def test_condas_files_are_what_the_script_writes(file: str) -> None:
    versions = {name: str(one.specifier).removeprefix("==") for name, one in locked().items()}
    assert (REPO / file).read_text(encoding="utf-8") == conda_text(CONDA_FILES[file], versions), CURE


@pytest.mark.parametrize("name", sorted(conda_files()))
def test_every_environment_is_pinned(name: str) -> None:
    for line in pip_lines(conda_files()[name]):
        if line.startswith("-c "):
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
