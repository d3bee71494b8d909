"""Claims: intervals against ramp.evaluation.bootstrap, verdict rules, what flips them, and what stays untested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paper.claims import CLAIMS_FILE, holds, judge_all, main, read_claims_file, verdict
from paper.comparisons import pair, saving, task_ratio
from paper.evidence import shortages
from paper.intervals import (
    StandardError,
    detectable,
    exponential,
    holm,
    mean_interval,
    p_value,
    paired_difference,
    paired_ratio,
    standard_error,
    task_mean_ratio,
)
from paper.outcome import outcome_lines
from paper.study import Study
from ramp.core.errors import RampError
from ramp.evaluation.bootstrap import Estimate, interval, mean_kl, paired
from ramp.records.schema import VERDICTS
from ramp.records.table import read_claims
from tests.synthetic_league import search_records
from tests.synthetic_records import SOURCE, TARGET, synthetic_study, write_records


def windows(seed: int, n: int = 9) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(50, 60, n).astype(float)
    sums = rng.gamma(3.0, 20.0, n)
    rows = [{"window": i, "tokens": t, "nll": s, "kl": s} for i, (t, s) in enumerate(zip(tokens, sums, strict=True))]
    return sums[None], tokens, rows


def test_one_seed_gives_the_interval_of_the_records() -> None:
    sums, tokens, rows = windows(0)
    ours, theirs = mean_interval(sums, tokens), interval(rows, "kl")
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))
    assert exponential(ours).high == pytest.approx(interval(rows, "ppl").high)


def test_paired_difference_against_ramp_bootstrap() -> None:
    a, tokens, rows_a = windows(1)
    b, _, rows_b = windows(2)
    for row, other in zip(rows_b, rows_a, strict=True):
        row["tokens"] = other["tokens"]
    ours = paired_difference(a, b, tokens)
    theirs = paired([rows_a, rows_b], lambda x, y: mean_kl(x) - mean_kl(y))
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))
    assert (exponential(ours).value, exponential(ours).low) == pytest.approx(np.exp([theirs.value, theirs.low]))


def test_pairing_narrows_and_seeds_widen() -> None:
    a, tokens, _ = windows(3)
    shifted = a + 0.1 * tokens
    same = paired_difference(shifted, a, tokens)
    assert same.value == pytest.approx(0.1)
    assert same.high - same.low < 1e-9
    seeds = np.concatenate([shifted, a + 0.3 * tokens])
    spread = paired_difference(seeds, a, tokens)
    assert spread.value == pytest.approx(0.2)
    assert spread.low < 0.1
    assert spread.high > 0.3
    assert paired_ratio(2 * a, a, tokens).low == pytest.approx(2.0)


def test_intervals_over_few_seeds_are_those_of_student() -> None:
    """On windows that all say the same, the interval is scipy's, and holds the truth in 95 % of cases."""
    tokens = np.full(6, 100.0)
    seeds = np.array([0.4028, 0.2566, 0.2024])
    found = paired_difference(seeds[:, None] * tokens, 0.126 * tokens[None], tokens)
    wanted = stats.ttest_1samp(seeds, 0.126)
    ends = wanted.confidence_interval()
    assert (found.low, found.high) == pytest.approx((ends.low - 0.126, ends.high - 0.126), rel=0.02)
    error = standard_error(seeds[:, None] * tokens, 0.126 * tokens[None], tokens)
    assert p_value(found.value, error) == pytest.approx(wanted.pvalue, rel=0.03)
    other = np.array([0.2, 0.24, 0.21, 0.25])
    welch = stats.ttest_ind(seeds, other, equal_var=False)
    pair_error = standard_error(seeds[:, None] * tokens, other[:, None] * tokens, tokens)
    assert pair_error.freedom == pytest.approx(welch.df, rel=0.05)
    assert p_value(float(seeds.mean() - other.mean()), pair_error) == pytest.approx(welch.pvalue, rel=0.03)
    ratio = paired_ratio(seeds[:, None] * tokens, other[:, None] * tokens, tokens)
    assert 0 < ratio.low < seeds.min() / other.max()


def test_seeds_that_found_one_allocation_are_one() -> None:
    a, tokens, _ = windows(7)
    b, *_ = windows(8)
    thrice = np.repeat(a, 3, axis=0)
    assert paired_difference(thrice, b, tokens) == paired_difference(a, b, tokens)
    assert mean_interval(thrice, tokens) == mean_interval(a, tokens)
    assert standard_error(thrice, a, tokens).size == 0  # of rows that do not differ


@pytest.mark.parametrize(("seeds", "windows"), [(3, 12), (2, 30), (5, 36)])
def test_intervals_over_seeds_and_windows_hold_the_truth(seeds: int, windows: int) -> None:
    rng = np.random.default_rng(seeds)
    tokens, held = np.full(windows, 100.0), 0
    for _ in range(100):
        ease, own = rng.normal(0, 1, windows), rng.normal(0, 2, (seeds, 1))  # of a window, and of a seed
        found = paired_difference(tokens * (5 + ease + own), tokens * (5 + rng.normal(0, 1, (1, windows))), tokens)
        held += found.low <= 0 <= found.high
    assert held >= 88


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_against_its_definition(p_values: list[float]) -> None:
    """The smallest level at which the step-down procedure rejects each, by trying levels."""
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected, left = set(), sorted(range(len(p_values)), key=lambda i: p_values[i])
        for rank, i in enumerate(left):
            if p_values[i] * (len(left) - rank) > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(corrected) if p <= level} == rejected


def test_p_values_follow_the_intervals() -> None:
    a, tokens, _ = windows(5, 40)
    b = a + np.random.default_rng(0).normal(0, 5, a.shape)
    for shift in (0.0, 0.02, 0.05, 0.2, 1.0):
        estimate = paired_difference(a + shift * tokens, b, tokens)
        p = p_value(estimate.value, standard_error(a + shift * tokens, b, tokens))
        if abs(estimate.low) > 0.02 and abs(estimate.high) > 0.02:  # not at the edge
            assert (p < 0.05) == (estimate.side(0.0) != 0)
    assert p_value(0.0, standard_error(a, a, tokens)) == 1.0
    assert np.isnan(p_value(0.1, standard_error(a[:, :1], b[:, :1], tokens[:1])))
    assert np.isnan(holm([float("nan"), 0.01])[0])


def test_a_detectable_difference_is_found_four_times_of_five() -> None:
    """Over draws of windows: rows that truly differ by so much are told apart in 80 %, equal ones in 5 %."""
    rng = np.random.default_rng(3)
    tokens, error = np.full(40, 100.0), StandardError(5 / 100 / np.sqrt(40))  # of a mean over 40 windows of 100 tokens

    def found(difference: float) -> float:
        draws = rng.normal(difference * 100, 5, (400, 40))
        pairs = [(each[None], np.zeros((1, 40)), tokens) for each in draws]
        return float(
            np.mean(
                [p_value(draw.mean() / 100, standard_error(*p)) < 0.05 for draw, p in zip(draws, pairs, strict=True)]
            )
        )

    assert found(detectable(error)) == pytest.approx(0.8, abs=0.06)
    assert found(0.0) == pytest.approx(0.05, abs=0.04)


def test_one_window_has_no_interval_and_no_verdict() -> None:
    estimate = paired_difference(np.array([[1.0]]), np.array([[2.0]]), np.array([10.0]))
    assert estimate.low is None
    assert holds(estimate, {"below": 0.0}) is None


def test_task_ratio_pairs_items() -> None:
    right = (np.random.default_rng(0).random(400) < 0.6).astype(float)
    same = task_mean_ratio({"a": right}, {"a": right})
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))
    worse = right.copy()
    worse[np.flatnonzero(right)[:20]] = 0
    found = task_mean_ratio({"a": worse}, {"a": right})
    assert found.value == pytest.approx(1 - 20 / right.sum())
    assert found.high < 1


@given(st.floats(-5, 5), st.floats(0.001, 3), st.floats(0.001, 3), st.floats(-5, 5))
def test_rule_needs_the_whole_interval(value: float, down: float, up: float, limit: float) -> None:
    estimate = Estimate(value, value - down, value + up)
    below, above = holds(estimate, {"below": limit}), holds(estimate, {"above": limit})
    assert (below is True) == (value + up < limit)
    assert (above is True) == (value - down > limit)
    assert below is None or above is (not below)


def test_verdicts_of_several_comparisons() -> None:
    assert verdict([True, True]) == "replicated"
    assert verdict([False]) == "not replicated"
    assert verdict([True, None]) == "inconclusive"
    assert verdict([True, False]) == "partly"
    assert verdict([False, None]) == "not replicated"


def judged(study: Study) -> dict[str, dict]:
    return {entry["id"]: entry for entry in judge_all(study, read_claims_file(CLAIMS_FILE))}


def changed(table: str, methods: list[str], **factors: float) -> Study:
    """The synthetic study with some columns of some methods multiplied."""
    study = synthetic_study(seeds=(0, 1))
    frame = study.frames[table]
    for column, factor in factors.items():
        frame.loc[frame["method"].isin(methods), column] *= factor
    return study


def test_command_line_and_schema(tmp_path: Path) -> None:
    write_records(tmp_path, seeds=(0, 1))
    assert main(["--records", str(tmp_path), "--out", str(tmp_path / "claims.json")]) == 0
    claims = read_claims(tmp_path / "claims.json")
    assert [entry["id"] for entry in claims] == [*(f"C{i}" for i in range(1, 11)), "C10b", "C11"]
    for entry in claims:
        assert entry["verdict"] in VERDICTS
        assert (entry["value"] is None) == (entry["verdict"] == "not tested")
        assert entry["verdict"] == "not tested" or entry["rows"]
    by_id = {entry["id"]: entry for entry in claims}
    assert {by_id[claim]["verdict"] for claim in ("C1", "C7", "C10")} == {"not tested"}
    assert "Llama-2-7B" in by_id["C1"]["scale"]
    assert "30 episodes" in by_id["C10"]["scale"]
    assert (by_id["C6"]["verdict"], by_id["C8"]["verdict"]) == ("replicated", "partly")  # C8: a CPU of its devices


def test_too_little_is_no_evidence() -> None:
    """A number stands, and no verdict: one seed of a search, or a text of two windows."""
    single = judged(synthetic_study())
    assert {single[claim]["verdict"] for claim in ("C2", "C4", "C11")} == {"not evidence"}
    assert single["C2"]["value"] is not None
    assert "one seed" in single["C2"]["scale"]
    assert single["C8"]["verdict"] == "partly"  # checks of a file need no second seed
    study = synthetic_study(seeds=(0, 1))
    study.frames["records"]["n_windows_heldout"] = 2
    assert {entry["verdict"] for entry in judged(study).values()} == {"not evidence", "not tested"}
    assert shortages(study)[0].startswith("2 windows of 512 tokens")
    assert not shortages(synthetic_study(seeds=(0, 1)))


def test_a_study_that_scores_another_text_is_read_on_that_text() -> None:
    study = synthetic_study(seeds=(0, 1), texts=("mine",))
    assert study.primary_text == "mine"
    assert "bits: " in next(iter(outcome_lines(study)))
    assert not shortages(study)
    study = synthetic_study(seeds=(0, 1), texts=("mine",))
    study.frames["records"]["n_windows_mine"] = np.nan
    assert shortages(study) == ["no row scored on mine"]


def test_a_run_ends_with_rows_checks_claims_and_what_it_lacks() -> None:
    study = synthetic_study()
    study.claims = judge_all(study, read_claims_file(CLAIMS_FILE))
    lines = list(outcome_lines(study))
    best = min((e for e in study.find(SOURCE) if e.budget_bits == 4), key=lambda e: e.mean("kl_heldout") or 9)
    assert f"bits: {best.title} " in lines[0]
    assert any(line.startswith("checks of exported files: ") for line in lines)
    assert any("partly (C8: CPU only)" in line for line in lines)
    assert "one seed" in lines[-1]


def episodes_of(kls: list[float], feasible: list[bool]) -> Study:
    """A study whose searches of RAMP (paper) have these episodes, in every seed."""
    study = synthetic_study(seeds=(0, 1))
    found = study.find(SOURCE, "ramp_paper")
    rows = [
        {"model": SOURCE, "method": "ramp_paper", "budget_bits": entry.budget_bits, "seed": seed}
        | {"episode": episode, "kl": kl, "feasible": fits}
        for entry in found
        for seed in (0, 1)
        for episode, (kl, fits) in enumerate(zip(kls, feasible, strict=True))
    ]
    return Study(study.frames | {"episodes": pd.DataFrame(rows)})


def test_episodes_are_counted_under_the_budget_in_searches_that_go_on_for_longer() -> None:
    """An allocation above the budget is no result, and a search of 200 episodes cannot need more."""
    late = [0.1] * 10 + [0.5] * 240 + [0.2] * 50
    above = [False] * 10 + [True] * 290
    assert judged(episodes_of(late, above))["C10"]["value"] == 251
    assert judged(episodes_of(late, above))["C10"]["verdict"] == "not replicated"
    assert judged(episodes_of(late, [True] * 300))["C10"]["verdict"] == "replicated"
    assert judged(episodes_of(late[:200], [True] * 200))["C10"]["verdict"] == "not tested"
    assert judged(episodes_of(late, [False] * 300))["C10"]["verdict"] == "not tested"


def test_tasks_of_one_seed_are_no_evidence_where_other_seeds_have_rows() -> None:
    assert judged(synthetic_study(seeds=(0, 1)))["C9"]["verdict"] != "not evidence"
    study = synthetic_study(seeds=(0, 1))
    frame = study.frames["records"]
    searched = frame["method"].isin(["ramp", "ramp_paper"]) & (frame["seed"] == 1)
    frame.loc[searched, [column for column in frame if column.startswith("acc_")]] = np.nan
    assert "one seed of RAMP" in judged(study)["C9"]["scale"]


def test_one_failed_check_of_an_export_turns_the_verdict() -> None:
    study = synthetic_study(seeds=(0, 1))
    study.frames["halo"].loc[0, "ok"] = False
    assert judged(study)["C8"]["verdict"] == "not replicated"


@pytest.mark.parametrize(("factor", "expected"), [(0.2, "replicated"), (4.0, "not replicated")])
def test_quality_decides_c2(factor: float, expected: str) -> None:
    study = synthetic_study(seeds=(0, 1))
    frame = study.frames["windows"]
    learned = frame["method"].isin(["ramp", "ramp_paper"])
    frame.loc[learned, "nll"] += (factor - 1) * frame.loc[learned, "kl"]
    entry = judged(study)["C2"]
    assert entry["verdict"] == expected
    assert entry["scale"].startswith("analogue on SmolLM2")


@pytest.mark.parametrize(("factor", "expected"), [(0.8, "replicated"), (1.0, "not replicated")])
def test_the_transferred_table_decides_c5_and_leaves_c4(factor: float, expected: str) -> None:
    """C5 compares ten numbers for role and depth with the policy; C4 is of the policy alone."""
    before = judged(synthetic_study(seeds=(0, 1)))["C4"]
    assert before["rows"]
    assert not any("role_depth" in str(row) for row in before["rows"])
    study = changed("windows", ["role_depth_transfer"], kl=factor)
    found = judged(study)
    assert found["C5"]["verdict"] == expected
    assert found["C4"] == before
    frame = study.frames["windows"]
    rest = Study(study.frames | {"windows": frame[frame["method"] != "role_depth_transfer"]})
    assert judged(rest)["C5"]["verdict"] == "not tested"


def renamed(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the transferred table in the place of RAMP's, and of the transferred policy in that of the knapsack."""
    names = {"ramp": "role_depth_transfer", "knapsack": "ramp_transfer"}
    return {name: [row | {"method": names[row["method"]]} for row in rows] for name, rows in tables.items()}


def test_a_claim_is_judged_over_banks_where_its_rows_were_repeated() -> None:
    """Of one bank the transferred table and the policy are told apart; over five banks their order is not settled."""
    factors = (0.7, 1.5, 1.0, 0.8, 1.4)
    tables = search_records(*factors, model=TARGET, windows=64)
    tables = renamed(tables)
    alone = judged(synthetic_study(seeds=(0, 1)))["C5"]
    assert "banks" not in alone["measure"]
    assert alone["verdict"] == "not replicated"
    found = judged(synthetic_study(tables, seeds=(0, 1)))["C5"]
    assert "over 5 banks, 1 search seed on each, 64 windows" in found["measure"]
    assert found["verdict"] == "inconclusive"
    assert found["margin"][0] < 1.05 < found["margin"][1]
    few = judged(synthetic_study(renamed(search_records(*factors, model=TARGET, windows=6)), seeds=(0, 1)))["C5"]
    assert (few["verdict"], few["margin"] is None) == ("not evidence", False)
    assert "6 windows" in few["scale"]


def test_c2_needs_the_saving() -> None:
    """Rows that are not 6 % smaller are no test of a claim about 6 % fewer bytes."""
    study = synthetic_study(seeds=(0, 1))
    frame = study.frames["records"]
    frame.loc[frame["method"].isin(["ramp", "ramp_paper"]), "bytes_linear"] = 124_416
    assert judged(study)["C2"]["verdict"] == "not tested"


def test_saving_and_pair_by_hand() -> None:
    study = synthetic_study()
    ours, rival = study.one(SOURCE, "ramp", 3.65), study.one(SOURCE, "awq", 4.0)
    assert saving(ours, rival, "bytes_linear") == pytest.approx(1 - int(27_648 * 4.15) / 124_416)
    rows = study.frames["windows"]
    rows = rows[(rows["model"] == SOURCE) & (rows["grid"] == "affine")]
    mean = rows.groupby(["method", "budget_bits"])["kl"].sum() / (12 * 511)
    found = pair(study, ours, rival, "heldout")
    assert found.n_windows == 12
    assert found.kl_difference.value == pytest.approx(mean["ramp", 3.65] - mean["awq", 4.0])
    assert task_ratio(study, ours, study.float_entry(SOURCE))[1] == 80


def test_faults_in_the_rules_are_sentences(tmp_path: Path) -> None:
    text = CLAIMS_FILE.read_text()
    for old, new, match in (
        ("measure: halo_checks", "measure: halo_check", "did you mean 'halo_checks'"),
        ("rule: {above: 0.995}", "rule: {over: 0.995}", "a rule is"),
        ("rule: {above: 0.995}", "rule: 3", "a rule is"),
        ("rule: {above: 0.995}", "rule: {above: much}", "a rule is"),
        ("measure: halo_checks", "measure: {}", "no measure"),
        ("claims:\n", "claims:\n  - 1\n", "'1' is no claim"),
        ('paper_value: "99.5 % [A]"', "papervalue: x", "no field 'papervalue'"),
    ):
        assert old in text
        (tmp_path / "claims.yaml").write_text(text.replace(old, new))
        with pytest.raises(RampError, match=match):
            read_claims_file(tmp_path / "claims.yaml")


def test_records_without_rows_are_named_with_their_folder(tmp_path: Path) -> None:
    with pytest.raises(RampError, match=f"{tmp_path}: no rows in records.csv"):
        Study.read(tmp_path)


def test_no_torch() -> None:
    """The paper reads records alone; importing torch would make every edit of a figure cost seconds."""
    modules = "paper.tables.__main__, paper.figures.__main__, paper.claims, paper.build"
    code = f"import {modules}, sys, json; print(json.dumps([m for m in sys.modules if m in ('torch', 'transformers')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
