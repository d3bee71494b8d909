"""Functions of the package that read a file: found in the sources, so that a new one cannot be forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ramp", "baselines", "benchmarks", "paper", "workflow/scripts")
"""Folders of code."""

READING = {
    "json.load",
    "yaml.load",
    "csv.reader",
    "csv.DictReader",
    "mmap.mmap",
    "gzip.open",
    "ParquetFile",
    "read_yaml",
    "read_files",
    "load_configfile",
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
    "fromfile",
    "memmap",
    "memory_map",
    "os.read",
}
"""Names of functions, or of modules with a function, that take a file apart."""


def _name(call: ast.Call) -> set[str]:
    function = call.func
    if isinstance(function, ast.Attribute):
        return {function.attr, ast.unparse(function)}
    return {function.id} if isinstance(function, ast.Name) else set()


def _opens(call: ast.Call, names: set[str]) -> bool:
    """Return whether a call opens a file for reading: ``open``, or a method of that name, without a mode to write."""
    of_a_class = any(name[0].isupper() and not name.startswith("Path(") for name in names if "." in name)
    if not names & {"open", "fdopen"} or of_a_class:
        return False
    modes = (*call.args, *(key.value for key in call.keywords if key.arg == "mode"))
    written = [each.value for each in modes if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    flags = [ast.unparse(each) for each in call.args if "os.O_" in ast.unparse(each)]
    return not any(set(mode) & set("wax") and set(mode) <= set("rwaxbt+") for mode in written) and not flags


def _functions(node: ast.AST, place: str = "") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Lambda) and not place:
            yield f"lambda:{child.lineno}", child
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{place}.{child.name}" if place else child.name
            if not isinstance(child, ast.ClassDef):
                yield inner, child
            else:
                yield from _functions(child, inner)
        else:
            yield from _functions(child, place)


def readers() -> set[str]:
    """Return ``package/module.py:function`` of every function of the project's code that reads a file.

    Those of ``ramp/`` are named below it, those of other folders with their folder.
    """
    found = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            place = path.relative_to(ROOT / "ramp" if package == "ramp" else ROOT).as_posix()
            for name, node in _functions(ast.parse(path.read_text(encoding="utf-8"))):
                calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
                if any(_name(call) & READING or _opens(call, _name(call)) for call in calls):
                    found.add(f"{place}:{name}")
    return found
