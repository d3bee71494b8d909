"""Faults in a small size (``FAULTS=full``: the whole campaign); every reader of the package has an entry."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import campaign
from tests.faults.chain import ROOT
from tests.faults.not_fuzzed import FOLDERS_NOT_FUZZED, NOT_FUZZED
from tests.faults.readers import READERS
from tests.faults.scan import readers

PUBLISHED = ROOT / "results" / "published" / "accidents.csv"


def test_every_reader_of_the_package_has_an_entry() -> None:
    """A new function that reads a file is fuzzed, or says why not."""
    found, covered = readers(), {name for reader in READERS for name in reader.covers.split()}
    found = {name for name in found if not name.startswith(tuple(FOLDERS_NOT_FUZZED))}
    assert len(found) > 130
    assert not found - covered - set(NOT_FUZZED), "give these an entry in tests/faults/readers.py"
    assert not (covered | set(NOT_FUZZED)) - found, "these read no file any more"
    assert not covered & set(NOT_FUZZED)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="no campaign is published")
def test_the_page_shows_the_published_table() -> None:
    page = (ROOT / "docs" / "accidents.md").read_text(encoding="utf-8")
    assert page == campaign.page(PUBLISHED.read_text(encoding="utf-8")), "run: python -m tests.faults"


@pytest.mark.faults
@pytest.mark.slow
def test_no_fault_ends_in_a_traceback_a_hang_or_a_false_result(tmp_path: Path) -> None:
    from tests.faults.chain import load

    load()
    told: list[str] = []
    size = campaign.FULL if os.environ.get("FAULTS") == "full" else campaign.SMALL
    lines = list(campaign.campaign(size, *campaign.prepared(tmp_path), tmp_path / "work", told))
    assert sum(line.counts.injected for line in lines) >= size.files + size.kills
    bad = [line for line in lines if line.counts.tracebacks or line.counts.hangs or line.counts.lost]
    assert not bad, "\n".join([*map(str, bad), *told])
