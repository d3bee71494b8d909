"""A command reads its arguments before it loads what does its work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ramp.__main__ import COMMANDS

REPO = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "datasets", "pandas", "numpy", "matplotlib", "scipy", "pydantic", "snakemake"}
READ = """
import contextlib, io, json, runpy, sys
modules, option, heavy = json.loads(sys.argv[1])
found = {}
for module in modules:
    sys.argv = [module, option]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            found[module] = [end.code, sorted({*heavy} & {*sys.modules})]
print(json.dumps(found))
"""
STAGE = """
import sys
from ramp.core import cli

if __name__ != "__main__":
    print("loaded")

def main(argv=None):
    parser = cli.Parser()
    parser.add_argument("--threads", type=int, default=0)
    print("given", parser.parse_args(argv).threads, __name__)
    return 3

if __name__ == "__main__":
    sys.exit(cli.run(main))
"""


def python(*arguments: str, folder: Path = REPO) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--no-such-option", 2)])
def test_no_command_loads_a_large_library_to_read_its_arguments(option: str, status: int) -> None:
    """All commands in one process: what one of them loads shows in all that follow."""
    modules = [command.module for command in COMMANDS]
    done = python("-c", READ, json.dumps([modules, option, sorted(HEAVY)]))
    assert json.loads(done.stdout) == {module: [status, []] for module in modules}


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A folder with a stage of two parts."""
    (tmp_path / "stage.py").write_text(STAGE)
    return tmp_path


def test_the_work_is_loaded_when_the_arguments_are_right(stage: Path) -> None:
    done = python("-m", "stage", "--threads", "1", folder=stage)
    assert (done.stdout, done.returncode) == ("loaded\ngiven 1 stage\n", 3)


def test_a_wrong_argument_loads_no_work(stage: Path) -> None:
    done = python("-m", "stage", "--threads", "many", folder=stage)
    assert (done.stdout, done.returncode) == ("", 2)
    assert "is no whole number" in done.stderr


LATE = """
import sys, tests
sys.modules["__main__"].__spec__ = sys.modules["tests"].__spec__
from ramp.core import arithmetic
arithmetic.prepare([])
arithmetic.set_threads(2)
assert "torch" not in sys.modules
import importlib.util
assert importlib.util.find_spec("torch")  # as transformers does
import torch
found = arithmetic._Kernels
print(found.kind, found.library is not None, found.pool._max_workers, torch.get_num_threads())
"""


def test_torch_is_reproducible_whenever_it_is_imported() -> None:
    done = python("-c", LATE)
    assert done.stdout == "reproducible True 2 1\n", done.stderr
