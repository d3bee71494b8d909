"""docs/formats.md and docs/search.md are what the code says: formats written anew, every switch with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paper.formats import FORMATS, FormatError, docstring_parts, page, source_parts
from ramp.agent.params import RampParams
from ramp.records.schema import TABLES
from ramp.rl.additive_critic import SurrogateParams

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


PAGE = (ROOT / "docs" / "search.md").read_text()
ROWS = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `")]
NAMED = {name for names, _ in ROWS for name in re.findall(r"`([\w.]+)`", names)}


def test_every_switch_is_on_the_page_and_nothing_else() -> None:
    own = set(RampParams.model_fields) - {"reward", "sac", "surrogate"}
    assert own | {"surrogate.text"} == NAMED


def shown(default: object) -> str:
    """A default as the page writes it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return {9: "nine budgets"}[len(default)]
    return "all" if default is None else f"{default:g}" if isinstance(default, int | float) else str(default)


def test_the_page_has_the_defaults() -> None:
    params, surrogate = RampParams(), SurrogateParams()
    for names, default in ROWS:
        found = re.findall(r"`([\w.]+)`", names)
        owners = [surrogate if name.startswith("surrogate.") else params for name in found]
        pairs = zip(owners, found, strict=True)
        defaults = [shown(getattr(owner, name.removeprefix("surrogate."))) for owner, name in pairs]
        assert default.strip() == ", ".join(defaults), names
