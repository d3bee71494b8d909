"""Content of a package's environment, down to the last distribution: constraints, kept venvs, frozen files."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import yaml

from ramp.core.atomic_files import write_json
from ramp.core.errors import RampError
from ramp.methods.kinds import Package
from ramp.methods.loader import discover
from ramp.packages import package_environment as package_env
from ramp.packages.environment_lock import environment_lock
from ramp.packages.package_environment import fits, pins
from tests.refusals import refused
from tests.sealed import read_json
from workflow.scripts import freeze_environments
from workflow.scripts.freeze_environments import FreezeError, constraints_text

REPO = Path(__file__).resolve().parents[2]
ENVS = REPO / "workflow" / "envs"
FROZEN = sorted(path.name.removesuffix(".constraints.txt") for path in ENVS.glob("*.constraints.txt"))
HELD = ["Foo_Bar==1.0+cpu", "numpy==2.4.6", "pydantic==2.14.3", "safetensors==0.8.0"]


def packages() -> dict[str, tuple[str, ...]]:
    """Environment -> requirements, of the packages in baselines/."""
    methods = discover(REPO / "baselines").methods.values()
    return {method.env_name: method.requirements for method in methods if isinstance(method, Package)}


@pytest.mark.parametrize("name", FROZEN)
def test_an_environment_is_frozen_to_the_last_distribution_and_installs_elsewhere(name: str) -> None:
    """The committed file holds the requirements and many more, no local version, no folder and no address."""
    requirements = packages()[name]  # no file is left of an environment that no method has
    lines = [line for line in (ENVS / f"{name}.constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(freeze_environments.PIN.fullmatch(line) and "+" not in line for line in lines)
    assert pins(requirements).items() <= pins(lines).items()
    assert len(lines) > 2 * len(requirements)
    listed = yaml.safe_load((ENVS / f"{name}.yml").read_text())["dependencies"][-1]["pip"]
    assert listed[0] == f"-c {name}.constraints.txt"
    assert set(listed[1:]) == set(requirements)


def test_every_wheel_of_an_environment_has_its_hash() -> None:
    """torch has other files on a GPU, and the index has these eight as source alone."""
    entries = (ENVS / "packages.lock").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    entries = [line for line in entries if not line.startswith("#")]
    assert all(re.fullmatch(r"\S+==\S+( +--hash=sha256:[0-9a-f]{64})+ *", line) for line in entries)
    locked = {line.partition(" ")[0] for line in entries}
    pinned = {
        f"{name}=={version}"
        for file in ENVS.glob("*.constraints.txt")
        for name, version in pins(file.read_text(encoding="utf-8").splitlines()).items()
    }
    assert locked <= pinned
    without = {pin.partition("==")[0] for pin in pinned - locked}
    assert without == {
        "torch", "autoawq", "defuser", "device-smi", "gptqmodel", "hqq", "logbar", "pypcre", "tokenicer",
    }, "run: make freeze"  # fmt: skip


def test_the_environments_that_come_with_the_project_are_frozen() -> None:
    """A package that somebody adds need not be: its one file is enough."""
    assert set(FROZEN) >= {"autoawq", "autogptq", "autoround", "gptqmodel", "hqq", "llmcompressor"}


@pytest.mark.parametrize(
    ("requirements", "constraints", "same"),
    [
        (["foo-bar==1.0"], ["# a comment==3", "numpy==2.4.6", "elsewhere==9"], True),
        (["foo.bar[extra]==1.0"], [], True),
        (["foo-bar==1.1"], [], False),
        (["foo-bar==1.0"], ["numpy==2.4.5"], False),
        (["foo-bar==1.0", "absent==1"], [], False),
    ],
)
def test_an_installation_fits_or_does_not(requirements: list[str], constraints: list[str], same: bool) -> None:
    assert fits(HELD, requirements, constraints) is same
    assert not fits([line for line in HELD if "numpy" not in line], requirements, constraints)


def test_a_venv_that_holds_the_pins_is_kept_and_another_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def fake(line: list[str]) -> str:
        calls.append(line)
        return "\n".join(HELD) if "freeze" in line else ""

    monkeypatch.setattr(package_env, "command", fake)
    constraints, out = tmp_path / "mine.constraints.txt", tmp_path / "mine" / "environment.json"
    (tmp_path / "mine" / "bin").mkdir(parents=True)
    (tmp_path / "mine" / "bin" / "python").touch()
    (tmp_path / "mine" / "pyvenv.cfg").touch()
    constraints.write_text("numpy==2.4.6\n")
    line = ["--requirements", "foo-bar==1.0", "--constraints", str(constraints), "--out", str(out)]
    assert package_env.main(line) == 0
    assert read_json(out)["ok"]
    assert read_json(out)["freeze"] == HELD
    assert not [call for call in calls if "install" in call]
    constraints.write_text("numpy==2.4.7\n")
    assert package_env.main(line) == 0
    [install] = [call for call in calls if "install" in call]
    assert install[install.index("--constraint") + 1] == str(constraints)
    assert "foo-bar==1.0" in install


def test_two_runs_at_once_install_one_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, and keeps what that has installed."""
    folder, began, goes_on = tmp_path / "mine", threading.Event(), threading.Event()
    calls: list[str] = []

    def fake(line: list[str]) -> str:
        calls.append(line[-1] if "venv" in line else "")
        if "venv" in line:
            assert not folder.exists(), "another run's venv"
            (folder / "bin").mkdir(parents=True)
            (folder / "bin" / "python").touch()
            (folder / "pyvenv.cfg").touch()
            began.set()
            assert goes_on.wait(20)
        return "\n".join(HELD) if "freeze" in line else ""

    monkeypatch.setattr(package_env, "command", fake)
    line = ["--requirements", "foo-bar==1.0", "--out", str(folder / "environment.json")]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(package_env.main, line)
        assert began.wait(20)
        second = pool.submit(package_env.main, line)
        with pytest.raises(TimeoutError):
            second.result(0.5)
        goes_on.set()
        assert (first.result(20), second.result(20)) == (0, 0)
    assert [call for call in calls if call] == [str(folder)]
    assert read_json(folder / "environment.json")["freeze"] == HELD


def test_a_venv_in_use_is_not_installed_anew_and_a_half_installed_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    (folder / "pyvenv.cfg").touch()
    calls: list[list[str]] = []
    monkeypatch.setattr(package_env, "command", lambda line: calls.append(line) or "\n".join(HELD))
    line = ["--requirements", "foo-bar==1.0", "--out", str(folder / "environment.json")]
    with ThreadPoolExecutor(1) as pool, environment_lock(folder, shared=True), environment_lock(folder, shared=True):
        waiting = pool.submit(package_env.main, line)
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        assert calls == []
        assert folder.exists()
    assert not [call for call in calls if "venv" in call], "it fits"

    def killed(line: list[str]) -> str:
        if "install" in line:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(package_env, "command", killed)
    with pytest.raises(KeyboardInterrupt):
        package_env.main(["--requirements", "foo-bar==2.0", *line[2:]])
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    (folder / "pyvenv.cfg").touch()
    monkeypatch.setattr(package_env, "command", lambda line: calls.append(line) or "\n".join(HELD))
    for expected in (1, 1):  # made again once, then kept
        assert package_env.main(line) == 0
        assert len([call for call in calls if "venv" in call]) == expected
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "python").touch()
        (folder / "pyvenv.cfg").touch()


def test_what_the_lock_knows_is_installed_first_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(package_env, "command", lambda line: calls.append(line) or "")
    lock, constraints, folder = tmp_path / "a.lock", tmp_path / "c.txt", tmp_path / "mine"
    lock.write_text(
        "# head==1\nfoo-bar==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nnumpy==9 \\\n    --hash=sha256:cc\n"
    )
    constraints.write_text("Foo_Bar==1.0\nnumpy==2\ntorch==2\n")
    folder.mkdir()
    monkeypatch.setattr(package_env.shutil, "rmtree", lambda *_, **__: None)  # the venv is none of ours
    assert package_env.install(folder, ["torch==2", "x==1"], constraints, lock)["ok"]
    installs = [call for call in calls if "install" in call]
    assert ["--require-hashes" in call for call in installs] == [True, False, False]
    assert "--no-deps" in installs[0]
    assert (folder / "hashed.txt").read_text().split() == ["foo-bar==1.0", "--hash=sha256:aa", "--hash=sha256:bb"]


def record(**change: Any) -> dict[str, Any]:
    return {"ok": True, "reason": "", "requirements": ["b==1"], "freeze": ["b==1+cpu", "A==2"]} | change


def test_constraints_are_what_the_environment_holds() -> None:
    text = constraints_text("mine", record())
    assert text.splitlines()[-2:] == ["A==2", "b==1"]
    assert "pip install -c workflow/envs/mine.constraints.txt b==1" in text
    with pytest.raises(FreezeError, match="b @ file"):
        constraints_text("mine", record(freeze=["b @ file:///x"]))
    with pytest.raises(FreezeError, match="was not made"):
        constraints_text("mine", record(ok=False, reason="no wheel"))


def test_the_command_writes_its_files_and_leaves_a_written_conda_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "a": [{"filename": "a-2-py3-none-any.whl", "hashes": {"sha256": "aa"}}],
        "b": [{"filename": "b-1.tar.gz", "hashes": {"sha256": "bb"}}],
    }
    monkeypatch.setattr(freeze_environments, "served", files.get)
    write_json(tmp_path / "mine" / "environment.json", record())
    line = [str(tmp_path / "mine" / "environment.json"), "--out", str(tmp_path)]
    assert freeze_environments.main(line) == 0
    assert yaml.safe_load((tmp_path / "mine.yml").read_text())["dependencies"][-1]["pip"][-1] == "b==1"
    (tmp_path / "mine.yml").write_text("# by hand\n")
    assert freeze_environments.main(line) == 0
    assert (tmp_path / "mine.yml").read_text() == "# by hand\n"
    assert "A==2" in (tmp_path / "mine.constraints.txt").read_text()
    lock = (tmp_path / "packages.lock").read_text()
    assert lock == f"{freeze_environments.LOCK_HEAD}a==2 \\\n    --hash=sha256:aa\n"  # b has no wheel

    def silent(name: str) -> list:
        raise URLError("timed out")

    monkeypatch.setattr(freeze_environments, "served", silent)
    assert freeze_environments.main(line) == 2
    assert (tmp_path / "packages.lock").read_text() == lock


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    refused(RampError, {"holds something else": lambda: package_env.install(tmp_path, ["foo==1"])})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
