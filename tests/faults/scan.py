"""Which functions of the package read a file: found in the sources, so that a new one cannot be forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READING = {
    "read_json",
    "parse_json",
    "open_tensors",
    "load_tensors",
    "read_text",
    "read_bytes",
    "safe_load",
    "loads",
    "ZipFile",
    "open_stream",
    "read_table",
    "read_parquet",
    "read_csv",
    "GGUFReader",
    "from_pretrained",
    "decompress",
    "torch.load",
    "np.load",
    "safe_open",
    "load_file",
}
"""Names of functions, or of modules with a function, that take a file apart."""


def _name(call: ast.Call) -> set[str]:
    function = call.func
    if isinstance(function, ast.Attribute):
        return {function.attr, ast.unparse(function)}
    return {function.id} if isinstance(function, ast.Name) else set()


def _functions(node: ast.AST, place: str = "") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = f"{place}.{child.name}" if place else child.name
            if isinstance(child, ast.FunctionDef):
                yield inner, child
            else:
                yield from _functions(child, inner)
        else:
            yield from _functions(child, place)


def readers() -> set[str]:
    """Return ``package/module.py:function`` of every function in ``ramp/`` that reads a file."""
    found = set()
    for path in sorted((ROOT / "ramp").rglob("*.py")):
        for name, node in _functions(ast.parse(path.read_text(encoding="utf-8"))):
            calls = (inner for inner in ast.walk(node) if isinstance(inner, ast.Call))
            if any(_name(call) & READING for call in calls):
                found.add(f"{path.relative_to(ROOT / 'ramp').as_posix()}:{name}")
    return found
