"""The text under each field of a pydantic model, read from its source.

Pydantic does so itself (``use_attribute_docstrings``), but at every import: a third of a second for the models of a
study and its methods, whose texts only the configuration's schema and the tests ask for.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise

from pydantic import BaseModel


def field_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return the text under every field of a model that has one, inherited fields included."""
    found = {}
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            for field, text in pairwise(ast.parse(textwrap.dedent(inspect.getsource(each))).body[0].body):  # type: ignore[attr-defined]
                match field, text:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                        found[name] = inspect.cleandoc(words)
    return found
