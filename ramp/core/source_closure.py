"""The project's source files that a stage runs: the files that its rule must depend on.

Snakemake sees an edit to a file that a rule names, not to a module that this file imports. ``closure`` follows the
imports by reading them, inside functions too, so that an edited line reruns what it may change, and nothing else.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from ramp.core.atomic_files import sha256_file

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ramp", "baselines", "benchmarks", "paper", "workflow")


Modules = Callable[[bytes, str], Iterable[str]]
"""What gives the project's modules that a file imports: (its content, its path below the root) -> dotted names."""


def modules_of(text: bytes, file: str) -> list[str]:
    """Return the modules of the project that a source file may import, in dotted names, sorted."""
    own = Path(file).with_suffix("").parts
    return sorted({".".join(module) for module in _modules(ast.parse(text, file), own) if module[0] in PACKAGES})


def closure(root: Path, *files: str, modules: Modules = modules_of) -> list[str]:
    """Return ``files`` and every project file that they import, directly or not; sorted, relative to ``root``.

    A folder means what ``python -m`` runs of a package: its ``__init__`` and ``__main__`` files. A missing file
    raises ``FileNotFoundError`` with its path.
    """
    found: set[str] = set()
    waiting = [str(Path(file)) for file in files]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        if not file.endswith(".py") and (root / file).is_dir():
            waiting += [f"{file}/__init__.py", f"{file}/__main__.py"]
        else:
            found.add(file)
            waiting += imported(root, file, modules)
    return sorted(found)


def sources_digest(*files: str) -> str:
    """Return the hash of modules of this project and of all that they import: what was made by other code is not read.

    files: paths such as ``ramp/sized_gguf/bank.py``.
    """
    found = {name: sha256_file(ROOT / name) for name in closure(ROOT, *files)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


@cache
def imported(root: Path, file: str, modules: Modules = modules_of) -> tuple[str, ...]:
    """Return the project files that ``file`` imports, with the ``__init__`` files of their packages."""
    path = root / file
    if not path.is_file():
        raise FileNotFoundError(f"no source file {path}: a rule names a stage that is not there")
    found = modules(path.read_bytes(), file)
    return tuple(sorted({source for module in found for source in _files_of(root, module)}))


def _imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports below ``node`` that can run: code under ``if TYPE_CHECKING`` changes no result.

    Imports are statements, which lie in lists of statements alone: expressions, most of a tree, are not visited.
    """
    for field in ("body", "handlers", "cases", "orelse", "finalbody"):
        for child in getattr(node, field, ()):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child
            elif isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                yield from _imports(ast.Module(child.orelse, []))
            else:
                yield from _imports(child)


def _modules(tree: ast.Module, own: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield every module that may be imported, as parts; ``from a import b`` gives ``a`` and ``a.b``."""
    for node in _imports(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        else:
            base = own[: -node.level] if node.level else ()
            base += tuple((node.module or "").split(".")) if node.module else ()
            yield from (module for module in (base, *((*base, alias.name) for alias in node.names)) if module)


@cache
def _files_of(root: Path, module: str) -> tuple[str, ...]:
    """Return the module's file and the ``__init__`` files above it."""
    parts = module.split(".")
    names = ["/".join(parts[:depth]) + "/__init__.py" for depth in range(1, len(parts) + 1)]
    return tuple(name for name in [*names, "/".join(parts) + ".py"] if os.path.isfile(f"{root}/{name}"))
