"""Tables: numbers as shown, three renderings of the same cells, arithmetic of the sizes, whole command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from paper import intervals
from paper.figures.anytime import anytime
from paper.figures.optimum import optimum
from paper.measures import tasks_kept
from paper.study import Study
from paper.tables.__main__ import all_tables, printed_tables
from paper.tables.banks import banks_table, league_banks_table
from paper.tables.benchmarks import benchmarks_table, parity_table
from paper.tables.cost import cost_table
from paper.tables.equal_quality import equal_quality_table
from paper.tables.foldings import foldings_table
from paper.tables.halo import halo_table
from paper.tables.league import ablations_table, league_summary_table, league_table
from paper.tables.ledger import ledger_table
from paper.tables.main import main_table
from paper.tables.model import Column, Row, Table, number, parts
from paper.tables.optimum import additivity_table, optimum_table
from paper.tables.paired import controls_table, headline_pairs_table, paired_table
from paper.tables.render import to_latex, to_markdown, to_typst
from paper.tables.settings import settings_table
from paper.tables.sizes import LABEL_BITS, PARAMETERS, label_mixture_bits, sizes_table
from paper.tables.sizes import readings as size_readings
from paper.tables.tasks import tasks_table
from paper.tables.unjudged import OWN_ROW
from paper.values import values
from ramp.evaluation.bootstrap import Estimate
from tests.synthetic_gguf import gguf_records
from tests.synthetic_league import BENCHMARKS, PARITY, league_records, optimum_records, parity_row
from tests.synthetic_leakage import leakage_records
from tests.synthetic_records import SOURCE, TARGET, TASKS, cells, synthetic_study
from tests.synthetic_tuning import tuning_records

TABLE = Table(
    name="one",
    title="A & B, 5 % of [x]",
    columns=(Column("name", "na_me", align="left"), Column("value", "value", "nats", digits=3, signed=True)),
    rows=(Row({"name": 'a|b "#1" $x', "value": Estimate(-0.5, -1, 0)}, "g"), Row({"name": "c"}, "h")),
    footnotes=("a note_1",),
)


@pytest.fixture(scope="module")
def study() -> Study:
    return synthetic_study()


@pytest.fixture(scope="module")
def text(study: Study) -> dict[str, str]:
    """The numbers of the paper's text."""
    return values(study)


@pytest.fixture(scope="module")
def controlled() -> Study:
    return synthetic_study(controls=True)


def test_numbers() -> None:
    assert number(-1234.5678, Column("", "", digits=2)) == "−1,234.57"
    assert number(0.071, Column("", "", digits=1, scale=100, signed=True)) == "+7.1"
    assert number(-0.0004, Column("", "", digits=2, signed=True)) == "0.00"
    assert parts(None, Column("", "")) == ("–", "")
    assert parts(Estimate(1.0), Column("", "")) == ("1.00", "")


def test_rounding_hides_neither_a_small_number_nor_its_interval() -> None:
    column = Column("", "", digits=4)
    assert parts(Estimate(-0.000123, -0.000144, -0.000101), column) == ("−0.000123", "[−0.000144, −0.000101]")
    assert parts(0.0000314, column)[0] == "0.000031"
    assert parts(2.5e-11, column)[0] == "2.5e−11"
    assert parts(Estimate(0.12345, 0.1234, 0.1235), column) == ("0.12345", "[0.12340, 0.12350]")
    assert parts(Estimate(0.0193, 0.0165, 0.0220), column) == ("0.0193", "[0.0165, 0.0220]")  # as it was
    assert parts(0.004, Column("", "", digits=2))[0] == "0.00"  # per cents stay short


def test_latex_escapes_and_rules() -> None:
    text = to_latex(TABLE)
    assert r"\caption{A \& B, 5 \% of [x]}" in text
    assert r'a|b "\#1" \$x & $-$0.500 [$-$1.000, 0.000] \\' in text
    assert text.count(r"\midrule") == 2  # under the head, and between the groups
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")


def test_markdown_has_as_many_cells_as_columns() -> None:
    lines = [line.replace(r"\|", "") for line in to_markdown(TABLE).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {3}
    assert "na_me" in lines[0]
    assert "value (nats)" in lines[0]


def test_typst_compiles_hostile_text(tmp_path: Path) -> None:
    typst = pytest.importorskip("typst")
    (tmp_path / "main.typ").write_text('#set document(date: none)\n#include "one.typ"\n')
    (tmp_path / "one.typ").write_text(to_typst(TABLE))
    assert typst.compile(str(tmp_path / "main.typ"), format="pdf").startswith(b"%PDF")


def test_a_table_without_rows_says_so() -> None:
    empty = Table("one", "title", TABLE.columns, absent="Nothing was run.")
    for text in (to_latex(empty), to_markdown(empty), to_typst(empty)):
        assert "Nothing was run." in text
        assert "tabular" not in text
        assert "hline" not in text


def test_sizes_of_llama_2_7b() -> None:
    assert PARAMETERS == 6_738_415_616  # published
    sizes = [reading.gigabytes() for reading in size_readings()]
    expected = [3.074, 3.480, 3.606, 3.682, 3.696, 3.508, 3.889, 3.546, 3.619335872 - 0.000741]
    assert np.allclose([low for low, _ in sizes], expected, atol=0.0011)
    assert np.allclose(sizes[4], (3.696, 3.712), atol=0.0011)
    assert len(sizes_table().rows) == 9


def test_mixtures_by_brute_force() -> None:
    """Shares on a fine grid: no mixture with that mean label is outside the two-label extremes."""
    low, high = label_mixture_bits(3.65)
    labels, bits = np.array(list(LABEL_BITS)), np.array(list(LABEL_BITS.values()))
    shares = np.random.default_rng(0).dirichlet([0.3] * 4, 200_000)
    near = shares[np.abs(shares @ labels - 3.65) < 0.005]
    assert len(near) > 100
    assert (near @ bits).min() > low - 0.02
    assert (near @ bits).max() < high + 0.02


def test_main_table_states_limits_and_never_fp16(study: Study) -> None:
    table = main_table(study, SOURCE)
    text = to_markdown(table)
    assert "12 windows of 512 tokens of held-out text" in table.title
    assert "1 seed" in table.title
    assert "released Q4_1 checkpoint, de-quantized" in text
    assert "FP16" not in text
    assert "hypothetical" in text  # the float row's size is of no file
    methods = [row.cells["method"] for row in table.rows]
    assert methods[0] == "released file"
    assert len(methods) == 19
    records = study.frames["records"]
    [row] = records[(records["model"] == SOURCE) & (records["method"] == "gptq") & (records["budget_bits"] == 3)].iloc
    shown = f"{row['ppl_heldout']:.2f} [{row['ppl_low_heldout']:.2f}, {row['ppl_high_heldout']:.2f}]"
    assert f"{shown} | {row['kl_heldout']:.4f}" in text
    gptq = cells(table, method="GPTQ", budget="3")
    assert gptq["less_linear"] == pytest.approx(1 - 93_312 / 124_416)
    assert gptq["less_file"] == pytest.approx(1 - 168_312 / 199_416)


def test_paired_table_holds_ramp_against_every_rival(study: Study) -> None:
    pairs = {(row.cells["entry"], row.cells["rival"]) for row in paired_table(study, SOURCE).rows}
    for rival in ("RTN, 4", "GPTQ, 4", "AWQ, 4", "AWQ + GPTQ, 4", "Fisher knapsack, 3.65", "RAMP (paper), 3.65"):
        assert ("RAMP (ours), 3.65 bits", f"{rival} bits") in pairs
    assert not any("ggml" in entry for entry, _ in pairs)


def test_cost_compares_start_and_end_on_the_same_text(study: Study) -> None:
    shown = [row.cells["start"] for row in cost_table(study).rows]
    for entry in study.entries:
        if entry.grid == "affine" and entry.mean("kl_start") is not None:
            assert entry.mean("kl_start_selection") in shown
            assert entry.mean("kl_start") not in shown


def test_a_failed_export_check_is_named_with_its_value_and_limit() -> None:
    def check(name: str, value: float, limit: float) -> dict[str, object]:
        return {"file": "out/a.gguf", "check": name, "value": value, "limit": limit, "ok": value <= limit}

    frame = pd.DataFrame([check("types_differ", 0.0, 0.0), check("perplexity_difference", 0.05, 0.03)])
    table = halo_table(cast("Study", SimpleNamespace(frame={"halo": frame}.get)))
    assert "2 of HALO's files, 0 of files at the bytes of llama.cpp's mixes, 1 failed" in table.title
    (row,) = table.rows
    assert row.cells["held"] == "1 of 2"
    assert row.cells["failed"] == "perplexity difference: 0.05 (limit 0.03)"
    assert row.cells["difference"] == 0.05


def test_controls_stand_in_the_main_table_in_groups_of_their_own(study: Study, controlled: Study) -> None:
    rows = main_table(controlled, SOURCE).rows
    groups = list(dict.fromkeys(row.group for row in rows))
    assert groups.index("uniform 4.0") < groups.index("control 3.0") < groups.index("mixed 3.33")
    assert groups[-2:] == ["ggml", "mixes"]
    mixes = {row.cells["method"]: row.cells for row in rows if row.group == "mixes"}
    assert mixes.keys() == {"llama.cpp Q3_K_M †", "llama.cpp Q4_K_M †"}
    assert {cells.get("budget") for cells in mixes.values()} == {None}  # it has no budget of ours
    assert mixes["llama.cpp Q3_K_M †"]["ppl_heldout"] is None
    assert any("llama.cpp is not installed" in note for note in main_table(controlled, SOURCE).footnotes)
    names = [row.cells["method"] for row in main_table(study, SOURCE).rows]
    assert sorted([*names, "AWQ + GPTQ, groups of 32", "Fisher knapsack", *mixes]) == sorted(
        row.cells["method"]
        for row in rows  # and not the row of the second track
    )


def test_notes_of_rows_name_what_tells_them_apart_and_stand_once() -> None:
    study = synthetic_study(packages=True, seeds=(0, 1))
    records = study.frames["records"].astype({"note": "object"})
    source = records["model"] == SOURCE
    searched = source & (records["method"] == "random_search")
    records.loc[searched, "note"] = "both; tensors: " + records.loc[searched, "seed"].astype(str)
    records.loc[source & (records["method"] == "released"), "note"] = (
        "released file (Q4_1); released Q4_1 checkpoint, de-quantized; the same network as row float, evaluated once"
    )
    for method, bits, note in (("rtn", 3, "one"), ("rtn", 4, "two"), ("gptq", 3, "a; a; b"), ("awq", 4, "a; b")):
        records.loc[source & (records["method"] == method) & (records["budget_bits"] == bits), "note"] = note
    notes = main_table(Study(study.frames | {"records": records}), SOURCE).footnotes
    title = "released Q4_1 checkpoint, de-quantized"
    assert f"released file: Q4_1; the same network as row “{title}”, evaluated once." in notes
    assert {"RTN, 3 bits: one.", "RTN, 4 bits: two.", "GPTQ, 3 bits; AWQ, 4 bits: a; b."} <= set(notes)
    assert "random search: both; seed 0: tensors: 0; seed 1: tensors: 1." in notes


def test_a_transferred_policy_meets_the_transferred_table(study: Study, text: dict[str, str]) -> None:
    pairs = {(row.cells["entry"], row.cells["rival"]) for row in paired_table(study, TARGET).rows}
    moved, table = "RAMP (ours), transferred, 3.65 bits", "role and depth, transferred, 3.65 bits"
    assert (moved, table) in pairs
    assert (table, moved) not in pairs
    assert (table, "Fisher knapsack, 3.65 bits") in pairs
    assert text["transfer.one_target"] == "Qwen2.5-Coder-0.5B-Instruct"
    assert text["transfer.rows"] == "1"  # the policy's alone
    assert text["transfer.worst"].startswith("0.80")


def test_the_text_compares_at_the_saving_of_the_paper(text: dict[str, str]) -> None:
    assert "paper_budget" not in text  # 4 bits save nothing, 3.65 more than 7 %
    study = synthetic_study(seeds=(0, 1))
    records = study.frames["records"]
    there = (records["model"] == SOURCE) & (records["method"] == "ramp") & (records["budget_bits"] == 4)
    records.loc[there, "bytes_linear"] = records.loc[there, "bytes_linear"] * 941 // 1000
    found = values(study)
    assert found["paper_budget"] == "4"
    assert found["pair.paper.ramp.gptq.saved_linear"] == "5.9"
    shown = {
        row.cells["rival"]: row.cells
        for row in paired_table(study, SOURCE).rows
        if row.cells["entry"] == "RAMP (ours), 4 bits"
    }
    for rival, title in (("awq", "AWQ, 4 bits"), ("knapsack", "Fisher knapsack, 4 bits")):
        assert found[f"pair.paper.ramp.{rival}.reading"] == shown[title]["reading"]
    assert found["pair.ramp.gptq.entry"] == "RAMP (ours), 3.65 bits"  # the smallest budget's own pairs stay


def test_seeds_of_a_table_are_those_that_were_scored() -> None:
    assert tasks_table(synthetic_study(seeds=(0, 1)), SOURCE).title.endswith("1 or 2 seeds.")
    study = synthetic_study(seeds=(0, 1))
    records = study.frames["records"]
    records.loc[records["seed"] != 0, [f"acc_{task}" for task in TASKS]] = None
    assert tasks_table(study, SOURCE).title.endswith("1 seed.")
    [kept] = tasks_kept(study, methods=["ramp"])
    assert kept.rows[0].endswith("-s0")


def test_the_text_lists_every_comparison_of_roles_and_every_other_budget() -> None:
    study = synthetic_study(seeds=(0, 1))
    text = values(study)
    assert [key for key in text if key.startswith("role_bits.")] == [f"role_bits.{index}" for index in range(4)]
    assert "the last layers less those of middle MLP layers, RAMP (ours), 3.65" in text["role_bits.1"]
    row = cells(paired_table(study, SOURCE), entry="RAMP (ours), 4 bits", rival="Fisher knapsack, 4 bits")
    assert text["pair.ramp.knapsack.others"] == f"at 4 bits {row['reading']}"


def test_mixed_rows_are_paired_with_controls_of_the_same_bytes_alone(study: Study, controlled: Study) -> None:
    [row] = controls_table(controlled, SOURCE).rows
    assert row.cells["entry"] == "Fisher knapsack, 3.33 bits"
    assert row.cells["rival"] == "AWQ + GPTQ, groups of 32, 3 bits"
    assert 0 < row.cells["linear"] < 0.01
    assert controls_table(study, SOURCE).rows == ()
    named = {row.cells["entry"] for row in paired_table(controlled, SOURCE).rows}
    assert not [name for name in named if "groups of" in name]


def test_a_second_track_is_named_below_the_rows_and_stands_in_the_ledger(study: Study, controlled: Study) -> None:
    (note,) = [note for note in main_table(controlled, SOURCE).footnotes if "another format" in note]
    assert "RAMP (ours), 4 bits, fp16 track. These files differ by" in note
    assert not [note for note in main_table(study, SOURCE).footnotes if "another format" in note]
    assert "RAMP (ours), 4 bits, fp16 track" in {row.cells["row"] for row in ledger_table(controlled, SOURCE).rows}
    assert len(cost_table(controlled).rows) == len(cost_table(study).rows) + 1  # the knapsack's control budget
    rows = [entry.row for entry in controlled.entries]
    assert f"{SOURCE}/ramp-b4-fp16-s0" in rows
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    "make",
    [
        *(league_table, league_summary_table, ablations_table, equal_quality_table, optimum_table, additivity_table),
        *(foldings_table, benchmarks_table, parity_table, banks_table, league_banks_table),
    ],
)
def test_a_table_without_records_names_the_command_that_makes_them(
    make: Callable[[Study], Table], study: Study
) -> None:
    table = make(study)
    assert not table.rows
    assert "snakemake" in to_markdown(table)


def test_text_and_figures_without_records_are_silent(study: Study, text: dict[str, str]) -> None:
    assert not [key for key in text if key.startswith(("league.", "optimum.", "parity."))]
    for draw in (anytime, optimum):
        assert draw(study).axes[0].texts  # one sentence


def test_a_page_names_a_model_once_and_leaves_columns_to_the_files(controlled: Study) -> None:
    table = cost_table(controlled)
    printed, title = to_typst(table), table.rows[0].cells["model"]
    assert sum(row.cells["model"] == title for row in table.rows) > 1
    assert printed.count(f'emph("{title}")') == printed.count(f'"{title}"') == 1
    assert to_markdown(table).count(str(title)) > 1
    ledger = ledger_table(controlled, SOURCE)
    assert "made as" not in to_typst(ledger)
    assert "made as" in to_markdown(ledger)
    mixed = replace(TABLE, columns=(Column("model", "model"),), rows=(Row({"model": "a"}), Row({"model": "b"})))
    assert 'strong("model")' in to_typst(mixed)  # a line for each row would say no more


@pytest.fixture(scope="module")
def compared() -> Study:
    return synthetic_study({"benchmarks": BENCHMARKS, "parity": PARITY})


def test_the_benchmark_table_holds_ratios_notes_and_commands(compared: Study) -> None:
    table = benchmarks_table(compared)
    block, memory = (list(row.cells.values()) for row in table.rows)  # what is extrapolated has no reference
    assert block == ["GPTQ of a block: time", "2", "8", 0.25, "processor s"]
    assert memory == ["7B: peak memory †1", "5,500.0", "13,500.0", pytest.approx(0.407, abs=1e-3), "MB"]
    assert table.footnotes == ("†1 mapped pages included",)
    assert table.aside == ("Made by: python -m benchmarks.gptq_block; python -m benchmarks.memory.",)
    assert "Made by" in to_markdown(table)
    assert "Made by" not in to_typst(table), "a printed page needs no log"


def test_the_parity_table_keeps_rows_that_failed_with_their_reason(compared: Study) -> None:
    table = parity_table(compared)
    assert len(table.rows) == 5
    assert cells(table, bits="2")["reference"] == "gptqmodel 7.6.0 †1"
    assert "†1 it has no width of 2 bits" in table.footnotes
    first = cells(table, bits="3")
    assert (first["grid"], first["error"], first["ours"], first["ratio"]) == ("asymmetric", 1.0, 0.1, 0.5)


def test_the_text_counts_pairs_at_equal_settings_alone(compared: Study) -> None:
    found = values(compared)
    assert found["parity.pairs"] == "3 pairs"
    assert [found[f"parity.within{key}"] for key in ("", ".kl", ".error")] == ["1", "2", "2"]
    assert (found["parity.kl.best"], found["parity.kl.worst"]) == ("0.500", "1.030")
    assert (found["parity.error.best"], found["parity.error.worst"]) == ("1.000", "1.040")
    assert found["parity.others"] == "1"
    assert "parity.others" not in values(synthetic_study({"parity": [parity_row()]}))


EVERYTHING = {**league_records(), **optimum_records(), **gguf_records(), **tuning_records(), **leakage_records()}
EVERYTHING |= {"parity": PARITY}
JUDGEMENTS = ("better", "worse", "within noise", "identical")


def readings(study: Study) -> set[str]:
    """All words of the columns that judge, in every table of a study; those of ``sizes`` are ways to count."""
    tables = [table for table in [*all_tables(study), *printed_tables(study)] if table.name != "sizes"]
    return {str(row.cells["reading"]) for table in tables for row in table.rows if row.cells.get("reading")}


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of few draws: their words are asked for, not their ends."""
    monkeypatch.setattr(intervals, "DRAWS", 40)


@pytest.mark.usefixtures("few_draws")
def test_no_table_of_a_study_that_is_no_evidence_judges() -> None:
    """One seed: every table that would say better or worse says "not evidence" instead, and has no p value."""
    study = synthetic_study(EVERYTHING, controls=True)
    assert readings(study) == {"not evidence", OWN_ROW}
    tables = {table.name: table for table in [*all_tables(study), *printed_tables(study)]}
    assert not [name for name, table in tables.items() if any(column.key == "p" for column in table.columns)]
    measured = [table for name, table in tables.items() if table.rows and not name.startswith(("sizes", "choices"))]
    for table in measured:
        for render in (to_markdown, to_latex, to_typst):
            assert "Not evidence: one seed of" in render(table).replace("\\", ""), table.name
    assert not [name for name in ("sizes", "choices") if "Not evidence" in to_markdown(tables[name])]


@pytest.mark.usefixtures("few_draws")
def test_a_study_that_is_evidence_judges_in_all_of_them() -> None:
    study = synthetic_study(EVERYTHING, seeds=(0, 1))
    assert readings(study) - {"", OWN_ROW} <= {*JUDGEMENTS, *(f"{word} (alone)" for word in JUDGEMENTS)}
    assert {"better", "worse"} <= readings(study)


@pytest.mark.usefixtures("few_draws")
def test_no_number_of_the_text_judges_without_evidence() -> None:
    single, whole = (values(synthetic_study(EVERYTHING, seeds=seeds)) for seeds in ((0,), (0, 1)))
    judging = {"pair.ramp.knapsack.reading", "league.advice", "league.reading.0", "tuning.better", "gguf.plain.better"}
    assert judging <= set(whole)
    parts = ("pair", "league", "tuning", "gguf", "leakage")
    assert not [key for key, text in single.items() if key.partition(".")[0] in parts
                and re.search(r"better|worse|beyond noise|within noise|lower|higher", f"{key} {text}")]  # fmt: skip
    assert "pair.ramp.knapsack.kl" in single  # numbers stay


def test_equal_rows_are_identical_and_not_within_noise() -> None:
    study = synthetic_study(seeds=(0, 1))
    for name in ("windows", "records"):
        frame = study.frames[name]
        here = (frame["model"] == SOURCE) & (frame["budget_bits"] == 4)
        start = frame[here & (frame["method"] == "knapsack")]
        others = frame[~(here & (frame["method"] == "ramp"))]
        study.frames[name] = pd.concat([others, *(start.assign(method="ramp", seed=seed) for seed in (0, 1))])
    again = Study(study.frames)
    row = cells(paired_table(again, SOURCE), entry="RAMP (ours), 4 bits", rival="Fisher knapsack, 4 bits")
    assert row["reading"] == "identical"
    assert values(again)["pair.ramp.knapsack.others"] == "at 4 bits the search kept its start"


def test_the_main_text_compares_the_knapsack_at_equal_bytes() -> None:
    study = synthetic_study(seeds=(0, 1))
    table, found = headline_pairs_table(study), values(study)
    assert 0 < len(table.rows) <= 12
    last = table.rows[-1].cells
    assert (last["entry"], last["rival"]) == ("Fisher knapsack, 4 bits", "AWQ + GPTQ, 4 bits")
    row = cells(paired_table(study, SOURCE), entry=last["entry"], rival=last["rival"])
    assert last["kl"] == row["kl"]
    assert found["pair.equal.knapsack.awq_gptq.kl"] == " ".join(parts(row["kl"], Column("", "", digits=4, signed=True)))


def test_settings_are_those_of_the_published_configuration() -> None:
    """Amounts come from config.json and from the methods' own parameters; records without it have no such table."""
    rows = {
        row.cells["what"]: row.cells
        for row in settings_table(Study.read(Path(__file__).parents[2] / "results" / "published")).rows
    }
    assert rows["search text, read by every evaluation"]["source"] == "16 windows of 128 tokens"
    assert rows["evaluations of a search"]["target"] == "10"
    [reward] = [cells["source"] for what, cells in rows.items() if what.startswith("RAMP (paper): k_q")]
    assert reward == "10, 1, 10, 5; 0.5 to 0.2; 5"
    study = synthetic_study({})
    assert not settings_table(study).rows
    study.config = {
        "depth": "quick",
        "depths": {"quick": {"windows": 2, "target_windows": None}},
        "calibration": {"tokens": 2048, "target_tokens": None, "length": 256},
        "sensitivity": {"windows": 4, "target_windows": None, "length": 128},
        "search": {"windows": 16, "selection_windows": None, "length": 64},
        "evaluation": {"length": 256},
    }
    own = {row.cells["what"]: (row.cells["source"], row.cells["target"]) for row in settings_table(study).rows}
    assert own["calibration text"] == 2 * ("2,048 tokens in windows of 256",), "what is not set is that of the source"
    assert own["held-out text"] == ("2 windows of 256 tokens", "all windows of 256 tokens")
