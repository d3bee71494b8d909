"""docs/formats.md is what the code says: written anew it is the same, and a source that is gone is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from paper.formats import FORMATS, FormatError, docstring_parts, page, source_parts
from ramp.records.schema import TABLES

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "formats.md").read_text(encoding="utf-8") == page(), "run: python -m paper.formats"


def test_every_table_and_every_format_is_there() -> None:
    text = page()
    assert len(FORMATS) > 15
    for table in TABLES.values():
        assert f"### {table.file}\n" in text
        for column in table.columns:
            assert f"| `{column.name}` | {column.dtype} |" in text
    for each in FORMATS:
        assert f"## {each.title}\n\n`{each.path}`" in text


def test_fields_of_a_class_come_with_their_comments() -> None:
    table = source_parts("ramp/models/architecture.py:LinearSpec")[-1]
    assert '| `name` | `str` | module path without ".weight" |' in table.splitlines()


def test_commands_of_a_docstring_are_left_out() -> None:
    assert not any("python -m" in part for part in docstring_parts("ramp/league/acceptance.py"))


@pytest.mark.parametrize("source", ["ramp/gone.py", "ramp/problem/allocation.py:Gone", "ramp/core/errors.py"])
def test_a_source_that_is_gone_is_an_error(source: str) -> None:
    with pytest.raises(FormatError, match="correct paper"):
        source_parts(source)
