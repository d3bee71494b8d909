"""Something done as soon as torch is imported, by whatever module imports it first."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class WhenTorchIsImported:
    """A finder for ``sys.meta_path`` that calls a function when the import of torch has ended.

    It derives from no base class: importing that takes 20 ms.
    """

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return the spec of torch, whose loader calls the function at its end; None for every other module."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)  # whether torch is there may be asked without importing it
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_go_on(module: ModuleType) -> None:
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                load(module)
                self.then()

            setattr(spec.loader, "exec_module", load_and_go_on)  # noqa: B010 - mypy allows no method to be replaced
        return spec
