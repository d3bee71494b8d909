"""Files in baselines/ that call somebody else's package: what can be checked without their environments."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ramp.methods.kinds import Package
from ramp.methods.loader import discover

REPO = Path(__file__).resolve().parents[2]
CATALOG = discover(REPO / "baselines")
FILES = {name: CATALOG.files[name] for name, each in CATALOG.methods.items() if isinstance(each, Package)}
LIGHT = {"ramp", "pydantic", "numpy", "safetensors"} | set(sys.stdlib_module_names)


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of the modules that a piece of source imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names


def test_there_are_some() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("name", FILES)
def test_it_imports_its_package_inside_its_function(name: str) -> None:
    tree = ast.parse(FILES[name].read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported(ast.Module(top, [])) <= LIGHT
    assert imported(tree) - LIGHT, "it imports no package at all"


@pytest.mark.parametrize("name", FILES)
def test_it_does_not_hide_its_package(name: str) -> None:
    """With baselines/ on the path, ``import hqq`` must still find hqq."""
    assert name not in imported(ast.parse(FILES[name].read_text()))


@pytest.mark.parametrize("name", FILES)
def test_a_conda_file_pins_the_same_where_there_is_one(name: str) -> None:
    """workflow/envs/NAME.yml is for those who use conda; the workflow needs the method's file alone."""
    method = CATALOG[name]
    assert isinstance(method, Package)
    file = REPO / "workflow" / "envs" / f"{method.env_name}.yml"
    if file.is_file():
        parts = yaml.safe_load(file.read_text())["dependencies"]
        lines = next(part["pip"] for part in parts if isinstance(part, dict))
        assert sorted(line for line in lines if not line.startswith("-c ")) == sorted(method.requirements)


@pytest.mark.parametrize("name", FILES)
def test_it_loads_without_torch(name: str) -> None:
    """The study looks at ``skip`` and ``bits`` before any package is there."""
    line = f"from ramp.methods.loader import load_method; import sys; load_method({str(FILES[name])!r})"
    line += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True, cwd=REPO)
    assert done.stdout.strip() == "False"
