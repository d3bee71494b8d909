"""Tables of benchmarks and parity: there when their records are, absent otherwise."""

from __future__ import annotations

import pytest

from paper.study import Study
from paper.tables.benchmarks import Marks, benchmarks_table, measure, parity_table
from paper.values import values
from tests.synthetic_league import BENCHMARKS, PARITY, parity_row
from tests.synthetic_records import cells, synthetic_study


@pytest.fixture(scope="module")
def study() -> Study:
    return synthetic_study({"benchmarks": BENCHMARKS, "parity": PARITY})


def test_the_benchmark_table_holds_ratios_notes_and_commands(study: Study) -> None:
    table = benchmarks_table(study)
    block, memory, time = (list(row.cells.values()) for row in table.rows)
    assert block == ["GPTQ of a block: time", "2", "8", 0.25, "processor s"]
    assert memory == ["7B: peak memory †1", "5,500.0", "13,500.0", pytest.approx(0.407, abs=1e-3), "MB"]
    assert time[:3] == ["7B: time †2", "40,000", "3750"]
    assert table.footnotes[:2] == ("†1 mapped pages included", "†2 extrapolated")
    assert table.footnotes[2] == "Made by: python -m benchmarks.gptq_block; python -m benchmarks.memory."


def test_the_parity_table_keeps_rows_that_failed_with_their_reason(study: Study) -> None:
    table = parity_table(study)
    assert len(table.rows) == 5
    assert cells(table, bits="2")["reference"] == "gptqmodel 7.6.0 †1"
    assert "†1 it has no width of 2 bits" in table.footnotes
    first = cells(table, bits="3")
    assert (first["grid"], first["error"], first["ours"], first["ratio"]) == ("asymmetric", 1.0, 0.1, 0.5)


def test_the_text_counts_pairs_at_equal_settings_alone(study: Study) -> None:
    found = values(study)
    assert found["parity.pairs"] == "3 pairs"
    assert [found[f"parity.within{key}"] for key in ("", ".kl", ".error")] == ["1", "2", "2"]
    assert (found["parity.kl.best"], found["parity.kl.worst"]) == ("0.500", "1.030")
    assert (found["parity.error.best"], found["parity.error.worst"]) == ("1.000", "1.040")
    assert found["parity.others"] == "1"
    assert "parity.others" not in values(synthetic_study({"parity": [parity_row()]}))


def test_a_note_has_one_mark() -> None:
    marks = Marks()
    assert [marks.of(note) for note in ("a", "", None, float("nan"), "b", "a")] == [" †1", "", "", "", " †2", " †1"]
    assert marks.footnotes() == ("†1 a", "†2 b")


def test_measures_read_well() -> None:
    assert [measure(value, "s") for value in (0.012345, 12.3456, 12345.6, None)] == ["0.01235", "12.35", "12,346", None]
