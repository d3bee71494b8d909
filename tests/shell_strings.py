"""The commands of Snakemake's rules, and the values in them that a shell would not read as one word."""

from __future__ import annotations

import ast
import io
import re
import string
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BY_TYPE = {"threads": "Snakemake's own integer"}
"""Values that need no quotes, each with its reason."""


@dataclass(frozen=True)
class Command:
    """The command of one rule."""

    file: str
    line: int
    text: str


def commands(file: Path) -> Iterator[Command]:
    """Yield the commands of a file of rules; raise ``ValueError`` where one is more than plain strings."""
    text = file.read_text(encoding="utf-8")
    for block in re.finditer(r"^( *)shell:(.*\n(?:(?:\1 +.*)?\n)*)", text, re.MULTILINE):
        line = text.count("\n", 0, block.start()) + 1
        parts = []
        for token in tokenize.generate_tokens(io.StringIO(f"({block[2]})").readline):
            if token.type == tokenize.STRING and "f" not in token.string.partition(token.string[-1])[0].lower():
                parts.append(ast.literal_eval(token.string))
            elif token.string.strip() not in ("", "(", ")"):
                raise ValueError(f"{file.name}:{line}: a command is plain strings, not {token.string}")
        yield Command(file.name, line, "".join(parts))


def unquoted(text: str) -> list[str]:
    """Return the values of a command that are not one word each: without :q, or inside other quotes."""
    found = []
    state = [""]  # the quotes around this place, from outside in; a substitution begins afresh
    for literal, field, form, conversion in string.Formatter().parse(text):
        _read(literal, state)
        if field is None:
            continue
        root = re.split(r"[.\[]", field)[0]
        quoted = form == "q" and not conversion and not state[-1]
        if not quoted and (root not in BY_TYPE or form or conversion):
            found.append(field)
    return found


def _read(literal: str, state: list[str]) -> None:
    """Follow bash's quotes through a piece of a command."""
    place = 0
    while place < len(literal):
        sign, inside = literal[place], state[-1]
        if inside == "'":
            if sign == "'":
                state[-1] = ""
        elif sign == "\\":
            place += 1
        elif literal.startswith("$(", place):
            state.append("")
            place += 1
        elif sign == ")" and not inside and len(state) > 1:
            state.pop()
        elif sign == '"':
            state[-1] = "" if inside else sign
        elif sign == "'" and not inside:
            state[-1] = sign
        place += 1
