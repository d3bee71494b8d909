"""Load the methods that files in baselines/ register."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    pass
from ramp.methods.kinds import NAME, PROXIES, Allocator, Method, MethodError, Mix, Package

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z0-9,_-]+\])?==[A-Za-z0-9.+!_-]+")
"""A pip requirement that allows one version."""


def load_method(path: str | Path) -> Method:
    """Import one method file by path and return its checked ``METHOD``; ``MethodError`` in one sentence."""
    path = Path(path)
    if not path.is_file():
        near = difflib.get_close_matches(path.stem, [*discover(path.parent)], n=1) if path.parent.is_dir() else []
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise MethodError(f"no method file {path}{hint}: copy _template.py there or correct the name")
    module_name = f"_ramp_method_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise MethodError(f"{path} is not a Python file: a method is one .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # pydantic looks up annotations there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # any fault of a user's file becomes one sentence
        sys.modules.pop(module_name, None)
        raise MethodError(f"method file {path} does not load: {type(error).__name__}: {error}") from error
    method = getattr(module, "METHOD", None)
    if method is None:
        raise MethodError(
            f"{path} registers no METHOD: end it with METHOD = Quantizer(...), Allocator(...), Package(...) or Mix(...)"
        )
    check_method(method, path)
    return method


def check_method(method: object, path: Path) -> None:
    """Raise ``MethodError`` unless ``method`` is a well-formed method named as its file."""
    if not isinstance(method, Method):
        kind = type(method).__name__
        raise MethodError(f"{path}: METHOD is a {kind}, not a ramp.methods.kinds.Quantizer, Allocator, Package or Mix")
    if method.name != path.stem:
        raise MethodError(
            f"{path}: METHOD.name is '{method.name}', the file's name says '{path.stem}'; make them equal"
        )
    if not NAME.fullmatch(method.name):
        raise MethodError(f"{path}: the name '{method.name}' may hold lower-case letters, digits and underscores only")
    if not (isinstance(method.params, type) and issubclass(method.params, BaseModel)):
        raise MethodError(
            f"{path}: METHOD.params must be a pydantic model class, for instance a subclass of "
            "ramp.methods.kinds.Params"
        )
    if not isinstance(method.requirements, tuple):
        raise MethodError(f"{path}: requirements should be a tuple such as ('hqq==0.2.8.post1',)")
    for requirement in method.requirements:
        if not PIN.fullmatch(str(requirement)):
            raise MethodError(f"{path}: requirement '{requirement}' is not pinned: write name==version")
    if isinstance(method, Package):
        check_package(method, path)
        return
    if isinstance(method, Mix):
        if not re.fullmatch(r"I?Q[1-8]_[A-Z0-9_]+", method.file_type):
            raise MethodError(f"{path}: file_type '{method.file_type}' is no name of a llama.cpp mix, such as Q4_K_M")
        return
    if isinstance(method.quantizer, str) and method.quantizer not in ("rtn", "gptq"):
        raise MethodError(f"{path}: quantizer '{method.quantizer}' is unknown (known: rtn, gptq, or a function)")
    if isinstance(method, Allocator) and method.proxy not in PROXIES:
        near = difflib.get_close_matches(method.proxy, PROXIES, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(PROXIES)}"
        raise MethodError(f"{path}: proxy '{method.proxy}' is unknown ({hint})")
    if not NAME.fullmatch(method.fold):
        raise MethodError(f"{path}: fold '{method.fold}' may hold lower-case letters, digits and underscores only")


def check_package(method: Package, path: Path) -> None:
    """Raise ``MethodError`` unless there are requirements, widths are the grid's and the environment has a name."""
    if not method.requirements:
        raise MethodError(f"{path}: a package needs requirements, a tuple such as ('hqq==0.2.8.post1',)")
    if not method.bits or any(bits not in range(2, 9) for bits in method.bits):
        raise MethodError(f"{path}: bits {method.bits} should be widths from 2 to 8")
    if not NAME.fullmatch(method.env_name):
        raise MethodError(
            f"{path}: environment '{method.environment}' may hold lower-case letters, digits and underscores only"
        )


def discover(folder: str | Path) -> dict[str, Path]:
    """Method files of a folder: name -> path, sorted; names that begin with an underscore are none."""
    return {path.stem: path for path in sorted(Path(folder).glob("*.py")) if not path.stem.startswith("_")}


def parse_params(method: Method, values: dict[str, Any]) -> BaseModel:
    """``values`` as the method's parameter model; every fault in one sentence, with the nearest valid key."""
    try:
        return method.params(**values)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            key = ".".join(str(part) for part in fault["loc"])
            if fault["type"] == "extra_forbidden":
                near = difflib.get_close_matches(key, list(method.params.model_fields), n=1)
                faults.append(f"unknown key '{key}'" + (f" (did you mean '{near[0]}'?)" if near else ""))
            else:
                faults.append(f"'{key}': {fault['msg']}")
        raise MethodError(f"parameters of method '{method.name}': {'; '.join(faults)}") from None
