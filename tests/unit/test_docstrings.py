"""First words of docstrings: a verb for a function, a noun for a class or module, never a question word."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ramp", "paper", "baselines", "benchmarks", "workflow")
QUESTIONS = {"what", "whether", "how", "when", "where", "which", "why", "who", "whose"}


def openings(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, first word) of every docstring of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node) or "").split()
            if words:
                yield node.body[0].lineno, words[0].strip(".,:;?").lower()


def test_openings_of_modules_classes_and_functions_are_found() -> None:
    source = '"""Sums."""\nclass A:\n    """What it is."""\n    def f(self):\n        """How? So."""\n'
    assert sorted(openings(source)) == [(1, "sums"), (3, "what"), (5, "how")]


def test_no_docstring_opens_with_a_question_word() -> None:
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    found = [(file, line, word) for file in files for line, word in openings(file.read_text(encoding="utf-8"))]
    assert len(found) > 1500
    wrong = [f"{file.relative_to(ROOT)}:{line}: {word}" for file, line, word in found if word in QUESTIONS]
    assert not wrong, "open with a verb (function) or a noun (class, module): " + ", ".join(wrong)
