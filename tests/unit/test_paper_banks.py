"""Intervals over banks against every resample there is, and the table that is made from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from paper.bank_intervals import level_over_banks, ratio_of_sums, ratio_over_banks, resamples, spread_over_banks
from paper.banks import Banks
from paper.league import League
from paper.search_over_banks import standings
from paper.study import Study
from paper.tables.banks import banks_table, league_banks_table
from paper.tables.cost import cost_table
from paper.tables.gguf import gguf_table
from paper.tables.league import league_summary_table, league_table
from paper.tables.paired import paired_table
from paper.tables.render import to_markdown
from ramp.core.errors import RampError
from ramp.evaluation.bootstrap import Estimate
from ramp.records.bank_ratios import compared
from tests.synthetic_gguf import gguf_records
from tests.synthetic_league import bank_records, league_records, search_records
from tests.synthetic_records import SOURCE, write_records, write_tables


def every_resample(a: list[np.ndarray], b: list[np.ndarray]) -> Counter[float]:
    """The ratio of each equally likely resample of banks and of shared windows; a bank's seeds are averaged."""
    found: Counter[float] = Counter()
    n, windows = len(a), a[0].shape[1]
    for drawn in product(range(n), repeat=n):
        top, bottom = (sum(rows[bank].mean(axis=0) for bank in drawn) for rows in (a, b))
        for places in product(range(windows), repeat=windows):
            found[round(float(np.take(top, places).sum() / np.take(bottom, places).sum()), 9)] += 1
    return found


@pytest.mark.parametrize("seeds", [1, 2])
def test_resamples_have_the_frequencies_of_all_there_are(seeds: int) -> None:
    """Two banks, one or two seeds, three windows: 108 resamples, each as often as chance has it."""
    rng = np.random.default_rng(3)
    a = [rng.uniform(1, 2, (seeds, 3)) for _ in range(2)]
    b = [rng.uniform(1, 2, (1, 3)) for _ in range(2)]
    exact = every_resample(a, b)
    assert exact.total() == 4 * 27
    drawn = resamples([a, b], ratio_of_sums, draws=40_000)
    assert set(np.round(drawn, 9)) <= set(exact)
    values = np.array(sorted(exact))
    share = np.cumsum([exact[value] for value in values]) / exact.total()
    ours = np.searchsorted(np.sort(drawn), values + 1e-9) / len(drawn)
    assert np.abs(ours - share).max() < 0.01


def test_banks_alone_have_the_interval_of_student() -> None:
    """Windows that are all alike: five ratios have the t interval of their mean, nearly (theirs is of logarithms)."""
    ratios = np.array([0.95, 0.96, 0.97, 0.98, 0.99])
    found = ratio_over_banks([np.full((1, 8), each) for each in ratios], [np.ones((1, 8))] * 5).estimate
    half = ratios.std(ddof=1) / np.sqrt(5) * stats.t.ppf(0.975, 4)
    assert found.value == pytest.approx(ratios.mean())
    assert (found.low, found.high) == pytest.approx((ratios.mean() - half, ratios.mean() + half), abs=5e-4)


def test_windows_alone_have_the_interval_of_student() -> None:
    """Banks that are all alike: the t interval over windows, at the windows' degrees of freedom."""
    rng = np.random.default_rng(5)
    a = rng.normal(0.9, 0.03, (1, 12))
    found = ratio_over_banks([a] * 5, [np.ones((1, 12))] * 5).estimate
    half = a.std(ddof=1) / np.sqrt(12) * stats.t.ppf(0.975, 11)
    assert (found.low, found.high) == pytest.approx((a.mean() - half, a.mean() + half), abs=1e-3)


@pytest.mark.parametrize(
    ("banks_scatter", "windows_scatter", "both_scatter"),
    [(0.02, 0.0, 0.0), (0.02, 0.02, 0.0), (0.0, 0.03, 0.0), (0.01, 0.03, 0.01), (0.0, 0.0, 0.03)],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    banks_scatter: float, windows_scatter: float, both_scatter: float
) -> None:
    """Five banks and twelve windows, whose ratios scatter, also each window's on each bank: some 95 of 100 or more."""
    rng, trials, hits, truth = np.random.default_rng(0), 300, 0, 0.97
    for trial in range(trials):
        hard = rng.uniform(0.5, 2, 12)
        of_window = 1 + rng.normal(0, windows_scatter, 12)
        b = [hard[None] * (1 + shift) for shift in rng.normal(0, 0.05, 5)]
        shifts, alone = rng.normal(0, banks_scatter, 5), rng.normal(0, both_scatter, (5, 12))
        a = [truth * (1 + shifts[bank]) * (of_window + alone[bank]) * one for bank, one in enumerate(b)]
        found = ratio_over_banks(a, b, trial).estimate
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert hits / trials >= 0.89
    assert hits / trials <= (1 if both_scatter else 0.98)


def test_a_search_that_kept_its_start_everywhere_is_identical() -> None:
    """In all of three seeds, whose mean may differ from each of them in the last bit."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        rows = [rng.uniform(1, 2, (1, 36)) for _ in range(5)]
        found = ratio_over_banks([each.repeat(3, axis=0) for each in rows], rows)
        assert found.estimate == Estimate(1.0, 1.0, 1.0)
        assert (found.reading, found.side(1.0)) == ("identical", 0)


def test_a_kl_of_zero_has_no_interval() -> None:
    rows = [np.ones((1, 12))] * 5
    zero = [np.zeros((1, 12))] * 5
    assert ratio_over_banks(zero, rows).estimate == Estimate(0.0)
    some = [np.eye(1, 12)] * 5
    assert ratio_over_banks(some, rows).estimate.low is None


def test_too_little_text_gives_no_reading() -> None:
    rng = np.random.default_rng(7)
    rows = [rng.uniform(1, 2, (1, 12)) for _ in range(5)]
    found = ratio_over_banks([0.9 * each for each in rows], rows)
    assert (found.reading, found.side(1.0)) == ("better", -1)
    little = replace(found, little_text=True)
    assert (little.reading, little.side(1.0)) == ("little text", 0)


def test_windows_are_the_same_on_every_bank_and_for_both_methods() -> None:
    """A loss that a window adds to all rows moves no ratio; one added to one method does, on all banks at once."""
    hard = np.array([[1.0, 50.0, 3.0]])
    same = ratio_over_banks([0.9 * hard, 0.9 * hard], [hard, hard]).estimate
    assert (same.low, same.high) == pytest.approx((0.9, 0.9))
    level = level_over_banks([hard, hard], np.ones(3)).estimate
    assert level.low is not None
    assert level.low < 0.5 * level.value, "what a window adds moves both banks"


def test_one_bank_has_no_interval_and_says_so() -> None:
    found = ratio_over_banks([np.ones((3, 4))], [np.full((1, 4), 2.0)])
    assert found.estimate == Estimate(0.5)
    assert found.reading == ""
    assert "1 bank" in found.runs_over
    assert spread_over_banks([np.ones((1, 2))]) is None
    several = ratio_over_banks([np.ones((3, 4))] * 5, [np.ones((1, 4))] * 5)
    assert several.runs_over == "5 banks, 1 or 3 search seeds on each, 4 windows"


# --- the table -------------------------------------------------------------------------------------------------------


def study_of(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> Study:
    write_tables(write_records(folder), tables)
    return Study.read(folder)


def test_methods_are_compared_within_their_bank(tmp_path: Path) -> None:
    study = study_of(tmp_path, bank_records())
    rows = {row.cells["method"]: row.cells for row in banks_table(study).rows}
    ramp = rows["RAMP (ours)"]
    assert (ramp["banks"], ramp["seeds"], ramp["reading"]) == ("5", "2", "better")
    assert isinstance(ramp["ratio"], Estimate)
    assert ramp["ratio"].value == pytest.approx(0.9 * 1.005)
    assert ramp["ratio"].high is not None
    assert ramp["ratio"].high < 0.92, "banks differ by a tenth, the ratio does not"
    assert rows["Fisher knapsack"]["ratio"] is None
    assert {row["kept"] for row in rows.values()} == {""}, "the knapsack has no start, and the search left its own"
    spread = np.std(np.linspace(0.9, 1.1, 5), ddof=1)
    assert rows["Fisher knapsack"]["spread"] == pytest.approx(spread)
    floor = np.array([1, 1.05, 1.1, 1.15, 1.2])
    assert rows["Fisher knapsack"]["floor"] == pytest.approx(floor.std(ddof=1) / floor.mean())
    assert ramp["floor"] is None
    text = to_markdown(banks_table(study))
    assert "5 banks, 1 or 2 search seeds on each, 12 windows" in text
    assert "Of one bank" not in text


def test_one_bank_is_shown_without_an_interval(tmp_path: Path) -> None:
    table = banks_table(study_of(tmp_path, bank_records(banks=1)))
    ratios = [row.cells["ratio"] for row in table.rows if row.cells["ratio"]]
    assert ratios
    assert all(isinstance(ratio, Estimate) and ratio.low is None for ratio in ratios)
    assert "1 bank" in table.title
    assert any("Of one bank" in note for note in table.footnotes)


def test_a_ratio_takes_the_banks_that_both_have_and_finite_rows(tmp_path: Path) -> None:
    tables = bank_records()
    for name, rows in tables.items():
        tables[name] = [row for row in rows if (row["method"], row["bank_seed"]) != ("knapsack", 4)]
    for row in tables["banks_windows"]:
        if (row["method"], row["bank_seed"], row["search_seed"]) == ("ramp", 3, 1):
            row["kl"] = None
    banks = Banks(study_of(tmp_path, tables))
    found = banks.ratio(SOURCE, 3.5, "ramp")
    assert found is not None
    assert found.banks == 4
    level = banks.level(SOURCE, 3.5, "ramp")
    assert level is not None
    assert (level.banks, level.seeds) == (4, (1, 2)), "a KL stands on the banks of its ratio"
    assert banks.ratio(SOURCE, 3.5, "knapsack") is None


def test_the_spread_over_banks_stands_below_differences_of_rows(tmp_path: Path) -> None:
    with_banks = paired_table(study_of(tmp_path / "a", bank_records()), SOURCE)
    assert "Spread over banks" in with_banks.footnotes[-1]
    assert "7.2 % of the KL (Fisher knapsack, 3.5 bits, 5 banks, 12 windows)" in with_banks.footnotes[-1]
    without = paired_table(study_of(tmp_path / "b", {}), SOURCE)
    assert not any("Spread over banks" in note for note in without.footnotes)


@pytest.mark.parametrize("make", [cost_table, league_table, league_summary_table, gguf_table])
def test_the_spread_over_banks_stands_below_every_table_of_small_differences(tmp_path: Path, make: Any) -> None:
    tables = {**league_records(), **gguf_records(SOURCE)}
    floors = [any("Spread over banks" in note for note in make(study_of(tmp_path / name, tables | more)).footnotes)
              for name, more in (("with", bank_records()), ("without", {}))]  # fmt: skip
    assert floors == [True, False]


def test_rows_of_two_depths_or_dtypes_are_never_mixed(tmp_path: Path) -> None:
    """Draws that were run at another depth have other windows: neither tables nor the collection take both."""
    for column, value in (("n_windows", 36), ("length", 9), ("dtype", "bfloat16")):
        tables = search_records(0.9, 0.9, 0.9)
        for row in tables["banks"]:
            row["dtype"] = "float32"
        tables["banks"][-1][column] = value
        with pytest.raises(RampError, match=f"{column} .* compare with none"):
            Banks(study_of(tmp_path / column, tables))
        with pytest.raises(RampError, match=column):
            compared(tables["banks"])


@pytest.mark.parametrize("banks", [2, 4, 5])
def test_fewer_than_five_banks_give_no_reading(tmp_path: Path, banks: int) -> None:
    study = study_of(tmp_path, search_records(1, *np.linspace(0.95, 0.97, banks - 1)))
    [row] = [row.cells for row in banks_table(study).rows if row.cells["ratio"]]
    assert row["kept"] == "1"
    assert row["reading"] == ("better" if banks == 5 else "few banks")
    assert ("Few banks" in " ".join(banks_table(study).footnotes)) == (banks < 5)
    [standing] = standings(study)
    assert standing.side == (-1 if banks == 5 else 0)


def test_the_league_is_compared_within_each_draw_and_shown_on_the_studys_own(tmp_path: Path) -> None:
    """Two draws, of which the second has a run more; a second bank of draw 0 (of another machine) is no draw."""
    tables = league_records()
    first = {name: list(rows) for name, rows in tables.items()}
    for bank, factor in (("drawn", 2.0), ("elsewhere", 1.0)):
        for name, rows in first.items():
            for row in rows:
                if bank == "drawn" or row["allocator"] == "ramp":
                    better = 0.9 if bank == "drawn" and row["allocator"] == "ramp" else 1.0
                    scaled = {key: factor * better * row[key] for key in ("kl", "kl_held") if key in row}
                    tables[name].append({**row, "bank": bank, **scaled})
    for name in ("league", "league_windows"):
        tables[name] = [row for row in tables[name] if (row["bank"], row["allocator"]) != ("first", "random_search")]
    tables["league_banks"] = [{"model": SOURCE, "bank": "drawn", "bank_seed": 3}]
    study = study_of(tmp_path, tables)
    league = League(study)
    assert league.banks == {SOURCE: ["first", "elsewhere", "drawn"]}
    assert list(league.over_draws(SOURCE)) == [0, 3]
    table = league_banks_table(study)
    assert any("Few banks" in note for note in table.footnotes)
    rows = [row.cells for row in table.rows if row.cells["budget"] == "3.25"]
    assert {row["allocator"] for row in rows} == {"RAMP (ours)"}, "random search stands on one draw"
    ratio = rows[-1]["ratio"]
    assert isinstance(ratio, Estimate)
    assert ratio.value == pytest.approx((0.8 * 1 + 0.8 * 0.9 * 2) / 3 * 1.005)
    assert rows[-1]["banks"] == "2"
    assert "2 banks, 1 or 2 search seeds on each, 6 windows" in table.title


def test_a_league_on_little_text_gives_no_reading_over_banks(tmp_path: Path) -> None:
    """Five draws, of six windows of a hundred tokens."""
    tables = league_records()
    first = {name: list(rows) for name, rows in tables.items()}
    for draw in range(1, 5):
        for name, rows in first.items():
            tables[name] += [{**row, "bank": f"drawn{draw}"} for row in rows]
    tables["league_banks"] = [{"model": SOURCE, "bank": f"drawn{draw}", "bank_seed": draw} for draw in range(1, 5)]
    table = league_banks_table(study_of(tmp_path, tables))
    assert {row.cells["reading"] for row in table.rows} == {"little text"}
    assert any("Little text" in note for note in table.footnotes)
