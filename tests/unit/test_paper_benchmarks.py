"""Tables of benchmarks and parity: there when their records are, absent otherwise, and set into the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import row
from paper.claims import main as claims_main
from paper.study import Study
from paper.tables.benchmarks import Marks, benchmarks_table, measure, parity_table
from paper.tables.render import to_markdown
from paper.values import values
from ramp.records.table import write_table
from tests.synthetic_records import SOURCE, write_records

BENCHMARKS = [
    row("GPTQ of a block: time", 2.0, 8.0, "processor s", "python -m benchmarks.gptq_block"),
    row("7B: peak memory", 5.5e9, 13.5e9, "bytes", "python -m benchmarks.memory", "mapped pages included"),
    row("7B: time", 40_000.0, 3750.0, "processor s", "python -m benchmarks.memory", "extrapolated"),
]


def parity_row(**other: Any) -> dict[str, Any]:
    """A row of parity.csv."""
    return {
        "method": "gptq", "reference": "gptqmodel 7.6.0", "model": SOURCE, "bits": 3, "group_size": 64,
        "symmetric": False, "settings": "equal", "kl_ours": 0.10, "kl_reference": 0.20, "ratio": 0.5,
        "error_measure": "linears", "error_ours": 1.0, "error_reference": 1.0, "error_ratio": 1.0, "note": "",
        "command": "python -m benchmarks.parity",
    } | other  # fmt: skip


PARITY = [
    parity_row(),
    parity_row(bits=4, ratio=1.03, kl_ours=0.103, kl_reference=0.1),
    parity_row(bits=5, ratio=0.9, error_ratio=1.04),
    parity_row(bits=4, settings="damping 0.05", ratio=9.0),
    parity_row(bits=2, ratio=None, kl_ours=None, kl_reference=None, error_ratio=None, note="it has no width of 2 bits"),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_records(tmp_path_factory.mktemp("compared") / "records")
    write_table(folder / "benchmarks.csv", BENCHMARKS)
    write_table(folder / "parity.csv", PARITY)
    claims_main(["--records", str(folder), "--out", str(folder / "claims.json")])
    return folder


def test_the_benchmark_table_holds_ratios_notes_and_commands(records: Path) -> None:
    text = to_markdown(benchmarks_table(Study.read(records)))
    assert "| GPTQ of a block: time | 2 | 8 | 0.250 | processor s |" in text
    assert "| 7B: peak memory †1 | 5,500.0 | 13,500.0 | 0.407 | MB |" in text
    assert "| 7B: time †2 | 40,000 | 3750 | 10.667 | processor s |" in text
    assert "†1 mapped pages included" in text
    assert "Made by: python -m benchmarks.gptq_block; python -m benchmarks.memory." in text


def test_the_parity_table_keeps_rows_that_failed_with_their_reason(records: Path) -> None:
    table = parity_table(Study.read(records))
    assert len(table.rows) == 5
    text = to_markdown(table)
    assert "gptqmodel 7.6.0 †1" in text
    assert "†1 it has no width of 2 bits" in text
    assert "| 3 | 64 | asymmetric | equal | linears | 1.000 | 0.1000 | 0.2000 | 0.500 |" in text


def test_the_text_counts_pairs_at_equal_settings_alone(records: Path) -> None:
    found = values(Study.read(records))
    assert found["parity.pairs"] == "3 pairs"
    assert [found[f"parity.within{key}"] for key in ("", ".kl", ".error")] == ["1", "2", "2"]
    assert (found["parity.kl.best"], found["parity.kl.worst"]) == ("0.500", "1.030")
    assert (found["parity.error.best"], found["parity.error.worst"]) == ("1.000", "1.040")
    assert found["parity.others"] == "1"


def test_the_text_speaks_of_other_settings_only_where_there_are_some(tmp_path: Path) -> None:
    folder = write_records(tmp_path)
    write_table(folder / "parity.csv", [parity_row()])
    assert "parity.others" not in values(Study.read(folder))


def test_without_records_the_tables_are_empty_and_the_text_is_silent(tmp_path: Path) -> None:
    study = Study.read(write_records(tmp_path))
    assert not benchmarks_table(study).rows
    assert not parity_table(study).rows
    assert not [key for key in values(study) if key.startswith("parity.")]


def test_the_paper_is_set_with_both(records: Path, tmp_path: Path) -> None:
    pytest.importorskip("typst")
    from paper.build import main as build_main
    from paper.figures.__main__ import main as figures_main
    from paper.tables.__main__ import main as tables_main

    tables_main(["--records", str(records), "--out", str(tmp_path / "tables")])
    figures_main(["--records", str(records), "--out", str(tmp_path / "figures")])
    arguments = [f"--records={records}", *(f"--{part}={tmp_path / part}" for part in ("tables", "figures"))]
    assert build_main([*arguments, f"--out={tmp_path / 'paper.pdf'}"]) == 0
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")


def test_a_note_has_one_mark() -> None:
    marks = Marks()
    assert [marks.of(note) for note in ("a", "", None, float("nan"), "b", "a")] == [" †1", "", "", "", " †2", " †1"]
    assert marks.footnotes() == ("†1 a", "†2 b")


def test_measures_read_well() -> None:
    assert [measure(value, "s") for value in (0.012345, 12.3456, 12345.6, None)] == ["0.01235", "12.35", "12,346", None]
