"""Load the methods that files in ``baselines/`` register.

A file registers ``METHOD``, named as the file, and may add ``VARIANTS``: {name: {field: another value}}, methods that
differ from it in these fields alone. A command line names a method by its file, ``baselines/gptq.py``, and a variant by
file and name, ``baselines/gptq.py:gptq_g64``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ramp.core.fault_words import in_words, placed
from ramp.core.nearest_name import near, nearest
from ramp.methods.kinds import NAME, PROXIES, Allocator, Method, MethodError, Mix, Package, Quantizer
from ramp.quantizers.widths import MAX_BITS, MIN_BITS

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z0-9,_-]+\])?==[A-Za-z0-9.+!_-]+")
"""A pip requirement that allows one version."""

MIX = re.compile(r"I?Q[1-8]_[A-Z0-9_]+")
"""llama.cpp's name of a mix."""


def split_reference(reference: str | Path) -> tuple[Path, str]:
    """Split ``FILE`` or ``FILE:NAME`` into the file and the method's name (the file's stem where none is given)."""
    file, colon, name = str(reference).rpartition(".py:")
    return (Path(f"{file}.py"), name) if colon else (Path(reference), Path(reference).stem)


def load_method(reference: str | Path) -> Method:
    """Import ``FILE`` or ``FILE:NAME`` and return its checked method; ``MethodError`` in one sentence."""
    path, name = split_reference(reference)
    if not path.is_file():
        names = [file.stem for file in method_files(path.parent)] if path.parent.is_dir() else []
        raise MethodError(f"no method file {path}{nearest(name, names)}: copy _template.py or correct the name")
    found = load_file(path)
    if name not in found:
        raise MethodError(f"{path} registers no method '{name}'{nearest(name, found)}")
    return found[name]


def load_file(path: Path) -> dict[str, Method]:
    """Import one file and return every method that it registers, by name; ``MethodError`` in one sentence."""
    module_name = f"_ramp_method_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise MethodError(f"{path} is not a Python file: a method is one .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # pydantic looks up annotations there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a file of a user may fail in any way
        sys.modules.pop(module_name, None)
        raise MethodError(f"method file {path} does not load: {type(error).__name__}: {error}") from error
    base = getattr(module, "METHOD", None)
    if base is None:
        raise MethodError(
            f"{path} registers no METHOD: end it with METHOD = Quantizer(...), Allocator(...), Package(...) or Mix(...)"
        )
    if isinstance(base, Method) and not base.name:
        base = dataclasses.replace(base, name=path.stem)
    check_method(base, path, path.stem)
    return {base.name: base} | dict(_variants(base, getattr(module, "VARIANTS", {}), path))


def _variants(base: Method, table: Any, path: Path) -> Iterator[tuple[str, Method]]:
    """Return the methods of ``VARIANTS``, each with other values in some fields of ``base``."""
    fields = {field.name for field in dataclasses.fields(base)} - {"name"}
    if not isinstance(table, dict) or not all(isinstance(changes, dict) for changes in table.values()):
        raise MethodError(f"{path}: VARIANTS should map names to fields: {{'mine_g32': {{'group_size': 32}}}}")
    for name, changes in table.items():
        if unknown := sorted(set(changes) - fields):
            hint = nearest(unknown[0], fields)
            raise MethodError(f"{path}: VARIANTS['{name}'] changes an unknown field '{unknown[0]}'{hint}")
        method = dataclasses.replace(base, name=name, **changes)
        check_method(method, path, name)
        yield name, method


def check_method(method: object, path: Path, name: str) -> None:
    """Raise ``MethodError`` unless ``method`` is a well-formed method of that name."""
    if not isinstance(method, Method):
        kind = type(method).__name__
        raise MethodError(f"{path}: METHOD is a {kind}, not a ramp.methods.kinds.Quantizer, Allocator, Package or Mix")
    if fault := next(_faults(method, name), None):
        raise MethodError(f"{path}: {fault}")


def _faults(method: Method, name: str) -> Iterator[str]:
    """Yield what is wrong with a method's fields."""
    if method.name != name:
        yield f"METHOD.name is '{method.name}', the file's name says '{name}'; make them equal"
    if isinstance(method, Package | Mix) and method.fold != "none":
        yield f"fold '{method.fold}' does not apply: a {type(method).__name__.lower()} starts from the float model"
    if method.learned and not isinstance(method, Allocator):
        yield "learned is for allocators, which can leave a policy"
    names = {"name": method.name, "fold": method.fold}
    if isinstance(method, Package):
        names["environment"] = method.env_name
    for field, value in names.items():
        if not NAME.fullmatch(value):
            yield f"the {field} '{value}' may hold lower-case letters, digits and underscores only"
    if not (isinstance(method.params, type) and issubclass(method.params, BaseModel)):
        yield "METHOD.params must be a pydantic model class, for instance a subclass of ramp.methods.kinds.Params"
    if not isinstance(method.requirements, tuple):
        yield "requirements should be a tuple such as ('hqq==0.2.8.post1',)"
    if isinstance(method, Package) and not method.requirements:
        yield "a package needs requirements, a tuple such as ('hqq==0.2.8.post1',)"
    for requirement in method.requirements:
        if not PIN.fullmatch(str(requirement)):
            yield f"requirement '{requirement}' is not pinned: write name==version"
    if isinstance(method, Package) and (not method.bits or not set(method.bits) <= set(range(MIN_BITS, MAX_BITS + 1))):
        yield f"bits {method.bits} should be widths from {MIN_BITS} to {MAX_BITS}"
    if isinstance(method, Mix) and not MIX.fullmatch(method.file_type):
        yield f"file_type '{method.file_type}' is no name of a llama.cpp mix, such as Q4_K_M"
    quantizer = method.quantizer if isinstance(method, Quantizer | Allocator) else "rtn"
    if not callable(quantizer) and quantizer not in ("rtn", "gptq"):
        yield f"quantizer '{quantizer}' is unknown (known: rtn, gptq, or a function)"
    if isinstance(method, Allocator) and method.proxy not in PROXIES:
        yield f"proxy '{method.proxy}' is unknown{near(method.proxy, PROXIES)}"


def method_files(folder: str | Path) -> list[Path]:
    """Return the method files of a folder, sorted; names that begin with an underscore are none."""
    return [path for path in sorted(Path(folder).glob("*.py")) if not path.stem.startswith("_")]


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Every method that a folder registers, and the files that do not load."""

    methods: dict[str, Method]  # variants included
    files: dict[str, Path]  # method -> its file
    broken: dict[str, MethodError]  # stem of a file -> why it does not load

    def __iter__(self) -> Iterator[str]:
        """Yield every name that a configuration may use; the name of a broken file is one, and using it raises."""
        yield from sorted({*self.methods, *self.broken})

    def __getitem__(self, name: str) -> Method:
        """Return a method; ``MethodError`` for a broken file and for an unknown name."""
        if name in self.broken:
            raise self.broken[name]
        if name not in self.methods:
            raise MethodError(f"unknown method '{name}'{nearest(name, self)}")
        return self.methods[name]

    def reference(self, name: str) -> Path:
        """Return what a command line calls a method: ``FILE``, or ``FILE:NAME`` for a variant."""
        _ = self[name]
        file = self.files[name]
        return file if file.stem == name else file.with_name(f"{file.name}:{name}")


def discover(folder: str | Path) -> Catalog:
    """Import every method file of a folder; one that does not load is kept with its error and stops no other."""
    found = Catalog({}, {}, {})
    for path in method_files(folder):
        try:
            methods = load_file(path)
            if twice := sorted(set(methods) & set(found.methods)):
                other = found.files[twice[0]]
                raise MethodError(f"{path}: method '{twice[0]}' is registered by {other} already: rename one")
        except MethodError as error:
            found.broken[path.stem] = error
            continue
        found.methods.update(methods)
        found.files.update(dict.fromkeys(methods, path))
    return found


def find_method(folder: str | Path, name: str) -> Path:
    """Return the reference of a method by its name in a folder; other files load only where none bears the name."""
    file = Path(folder) / f"{name}.py"
    return file if file.is_file() else discover(folder).reference(name)


def parse_params(method: Method, values: dict[str, Any]) -> BaseModel:
    """Return ``values`` as the method's parameter model; ``MethodError`` holds every fault in one sentence."""
    try:
        return method.params(**values)
    except ValidationError as error:
        faults = [in_words(method.params, *fault) for fault in placed(error, values)]
        raise MethodError(f"parameters of method '{method.name}': {'; '.join(faults)}") from None
