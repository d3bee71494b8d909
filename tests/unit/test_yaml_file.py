"""YAML within bounds: the line of a fault, keys written twice, and files that grow when they are read."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from ramp.core.errors import RampError
from ramp.core.yaml_file import YamlError, check_extent, read_yaml
from tests.refusals import refused

ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
FAULTS = {
    "line 2, column 4": "a: 1\n  b: 2\n",
    "line 3, column 1": "a: [1,\n 2\n",
    "line 2": "a: 1\nb: {x: 1, x: 2}\n",
    "'x' is written twice": "b: {x: 1, x: 2}\n",
    "(a key is empty)": "a: 1\n? \n: 2\n",
    "line 1, column 5 (the key 'null' is no text": "a: {null: 2}\n",
    "the key 'yes' is no text": "yes: 2\n",
    "the key '2026-12-01' is no text": "2026-12-01: 2\n",
    "once its aliases are written out": ALIASES,
    "nested too deeply": "a: " + "[" * 60 + "]" * 60,
    "could not determine a constructor": "a: !!python/object/apply:os.system [x]\n",
    "is not UTF-8": "a: \udcff",
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_fault_has_its_place(tmp_path: Path, words: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(FAULTS[words].encode("utf-8", "surrogateescape"))
    refused(RampError, {words: partial(read_yaml, file, "file")})


def test_nesting_that_the_parser_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("[" * 5000)
    refused(YamlError, {"nested too deeply": partial(read_yaml, tmp_path / "a.yaml", "file")})


def test_aliases_and_merged_keys_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n")
    assert read_yaml(tmp_path / "a.yaml", "file")["b"] == {"x": 3, "y": 2}


def test_values_that_hold_themselves() -> None:
    values: dict[str, object] = {}
    values["a"] = [values]
    refused(YamlError, {"nested": partial(check_extent, values, "x")})
