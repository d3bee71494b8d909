"""Profiles, pins and the container of clusters agree with the lock, the rules and the scripts that read them."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ramp import __version__
from tests.cluster.smoke import DEFAULT_MB

REPO = Path(__file__).resolve().parents[2]
PROFILES = REPO / "profiles"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions: continued lines joined, comments left out."""
    text = (PROFILES / "kubernetes" / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    whole = lines.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in whole if line.strip()]


def profile(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text(encoding="utf-8"))


def test_the_image_has_the_python_and_the_packages_of_the_lock() -> None:
    found = instructions()
    arguments = dict(text.split("=") for name, text in found if name == "ARG")
    [base] = [text for name, text in found if name == "FROM"]
    wanted = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert SpecifierSet(wanted).contains(f"{arguments['PYTHON']}.0")
    assert "${PYTHON}" in base
    assert not base.endswith(":latest")
    installs = [text for name, text in found if name == "RUN" and "pip install" in text]
    assert any(re.search(r"-r /opt/ramp/requirements\.lock\b", text) for text in installs)
    for text in installs:
        # nothing is installed beside the locks, or against them
        assert re.search(r"(requirements|torch)\.lock|versions\.txt", text)
        assert not [word for word in shlex.split(text) if re.match(r"[a-z-]+==", word)]


def test_everything_that_the_image_copies_is_there() -> None:
    found = instructions()
    copied = [shlex.split(text) for name, text in found if name == "COPY"]
    assert copied
    for *sources, target in copied:
        assert target.startswith("/opt/ramp")
        assert all((REPO / source).exists() for source in sources)
    names = [name for name, _ in found]
    assert [text for name, text in found if name == "USER"][-1] not in ("root", "0")  # jobs are not root
    assert "ADD" not in names
    assert profile("kubernetes")["precommand"] == "cp -rn /opt/ramp/. ."


def test_the_image_carries_the_version() -> None:
    assert profile("kubernetes")["container-image"].endswith(f"/ramp:{__version__}")


def test_slurm_pins_have_hashes_and_need_nothing_else() -> None:
    text = (PROFILES / "slurm" / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(r"[a-z-]+==[0-9.]+ +--hash=sha256:[0-9a-f]{64}", line), line


def test_kubernetes_pins_name_what_the_profile_uses() -> None:
    lines = (PROFILES / "kubernetes" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = {Requirement(line).name for line in lines if not line.startswith("#")}
    settings = profile("kubernetes")
    assert names == {
        f"snakemake-executor-plugin-{settings['executor']}",
        f"snakemake-storage-plugin-{settings['default-storage-provider']}",
    }


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_clusters_keep_to_the_limit_of_downloads_and_have_memory_for_jobs_without_a_plan(name: str) -> None:
    settings = profile(name)
    assert settings["resources"] == ["downloads=2"]
    assert f"mem_mb={DEFAULT_MB.removesuffix('M')}" in settings["default-resources"]


def test_the_sandbox_is_a_script_that_bash_reads() -> None:
    script = REPO / "tests" / "cluster" / "slurm"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    usage = subprocess.run([script, "sideways"], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "up|down|status" in usage.stderr
