"""Evaluations to equal quality: first crossings by hand, "never" without a number, and who is sooner against scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from paper.claims import CLAIMS_FILE, judge, read_claims_file
from paper.equal_quality import EqualQuality, sooner, sooner_interval
from paper.study import Study
from paper.tables.equal_quality import equal_quality_table
from tests.synthetic_records import SOURCE, cells, synthetic_study

ALLOWED = 100
CURVES: dict[str, list[list[tuple[int, float]]]] = {
    # per seed: (evaluations, best KL on search text so far)
    "knapsack": [[(1, 0.50)]],
    "ppo": [[(1, 1.0), (40, 0.70)], [(2, 1.1), (60, 0.80)], [(1, 1.2), (90, 0.75)], [(95, 0.7)]],
    "sac_discrete": [[(1, 1.0), (20, 0.80), (70, 0.45)], [(3, 0.9), (30, 0.6)], [(1, 0.9), (35, 0.79)], [(38, 0.6)]],
    "ramp_paper": [[(50, 0.9)], [], [(92, 0.8)], []],  # two seeds never within the budget, one never that good
    "ramp": [[(1, 0.50), (9, 0.40)], [(1, 0.50)], [(1, 0.50), (30, 0.45)], [(1, 0.50)]],
}


def league(curves: dict[str, list[list[tuple[int, float]]]]) -> Study:
    """A study with a league of one model and budget with these curves."""
    tables: dict[str, list[dict[str, Any]]] = {"league": [], "league_windows": [], "league_curves": []}
    shared = {"model": SOURCE, "bank": "first", "grid": "affine", "budget_bits": 3.65, "run_evals": ALLOWED}
    for name, seeds in curves.items():
        for seed, points in enumerate(seeds):
            run = {**shared, "allocator": name, "seed": seed}
            last = points[-1][1] if points else None
            evals = 1 if name == "knapsack" else ALLOWED
            row = {"evals": evals, "method": name, "spent": evals, "kl_search": last, "kl_held": last}
            tables["league"].append({**run, **row})
            tables["league_windows"].append({**run, "evals": evals, "window": 0, "tokens": 10, "kl": 1.0})
            for place, (at, kl) in enumerate(points):
                point = {"evals": at, "tokens": 2048 * at, "kl_search": kl, "kl_held": kl}
                tables["league_curves"].append({**run, **point, "is_start": name == "ramp" and place == 0})
    return synthetic_study(tables)


@pytest.fixture(scope="module")
def study() -> Study:
    return league(CURVES)


def test_levels_and_first_crossings_by_hand(study: Study) -> None:
    quality = EqualQuality(study)
    assert quality.level(SOURCE, 3.65, "knapsack") == 0.50
    level = quality.level(SOURCE, 3.65, "ppo")
    assert level == 0.80  # the worst seed's, which all reach
    assert level is not None
    found = {name: quality.reach(SOURCE, 3.65, name, level) for name in CURVES}
    assert [list(found[name].evals) for name in ("ppo", "sac_discrete", "ramp_paper")] == [
        [40, 60, 90, 95], [20, 30, 35, 38], [np.inf, np.inf, 92, np.inf],
    ]  # fmt: skip
    assert list(found["sac_discrete"].tokens) == [2048 * 20, 2048 * 30, 2048 * 35, 2048 * 38]
    assert (found["ramp_paper"].reached, found["ramp_paper"].allowed) == (1, ALLOWED)
    assert found["ramp"].by_start
    assert not found["ppo"].by_start
    assert quality.reach(SOURCE, 3.65, "evolution", level) is None
    assert quality.level(SOURCE, 3.65, "ramp_paper") is None  # a seed has no allocation at all
    assert quality.level(SOURCE, 4.0, "knapsack") is None


def test_the_table_says_never(study: Study) -> None:
    table = equal_quality_table(study)
    for of, level, allocator, reached, evals, tokens in (
        ("Fisher knapsack", 0.5, "PPO", "0 of 4", "never in 100", "never"),
        ("Fisher knapsack", 0.5, "SAC, discrete", "1 of 4", "never in 100 [70, > 100]", "never [143, never]"),
        ("Fisher knapsack", 0.5, "RAMP (ours)", "4 of 4", "1, by its start", "2"),
        ("PPO, worst seed", 0.8, "SAC, discrete", "4 of 4", "32 [20, 38]", "67 [41, 78]"),
        ("PPO, worst seed", 0.8, "RAMP (paper)", "1 of 4", "never in 100 [92, > 100]", "never [188, never]"),
    ):
        row = cells(table, of=of, allocator=allocator)
        assert (row["level"], row["reached"]) == (level, reached)
        assert (row["evaluations"], row["tokens"]) == (evals, tokens)


def judged(study: Study) -> dict[str, Any]:
    return judge(study, next(one for one in read_claims_file(CLAIMS_FILE) if one["id"] == "C10b"))


def test_the_claim_needs_every_sac_to_be_sooner(study: Study) -> None:
    mixed = judged(study)
    assert mixed["verdict"] == "partly"  # one seed of RAMP (paper) beats one of PPO
    assert "(1 of 4 seeds get there)" in mixed["measure"]
    assert mixed["value"] == pytest.approx(1 / 16)
    close = judged(league({**CURVES, "ramp_paper": [[(50, 0.8)], [(85, 0.8)], [], []]}))
    assert close["verdict"] == "inconclusive"
    assert close["value"] == pytest.approx(5 / 16)
    never = judged(league({**CURVES, "ramp_paper": [[], [], [], []]}))
    assert never["verdict"] == "partly"
    assert (never["value"], never["margin"]) == (0.0, [0.0, 0.0])
    good = judged(league({**CURVES, "ramp_paper": CURVES["sac_discrete"]}))
    assert good["verdict"] == "replicated"
    few = {name: seeds[:3] for name, seeds in CURVES.items()}
    assert judged(league(few))["verdict"] == "inconclusive"
    alone = judged(league({"ramp": CURVES["ramp"]}))
    assert alone["verdict"] == "not tested"
    assert "no league with PPO" in alone["scale"]


@given(
    st.lists(st.integers(1, 12), min_size=3, max_size=6),
    st.lists(st.integers(1, 12), min_size=3, max_size=6),
)
def test_sooner_is_the_mann_whitney_statistic(ours: list[int], theirs: list[int]) -> None:
    a, b = np.array(ours, dtype=float), np.array(theirs, dtype=float)
    assert sooner(a, b) == pytest.approx(mannwhitneyu(b, a).statistic / (len(a) * len(b)))
    assert sooner(a, b) + sooner(b, a) == pytest.approx(1)
    assert sooner(np.append(a, np.inf), b) <= sooner(a, b) + 1e-12


def test_the_interval_holds_its_value() -> None:
    found = sooner_interval(np.array([20, 30, 35, 90.0]), np.array([40, 60, 95, np.inf]))
    assert found.low is not None
    assert found.high is not None
    assert found.value == pytest.approx((3 * 4 + 2) / 16)
    assert found.low <= found.value <= found.high
    assert sooner_interval(np.array([1.0, 2.0, 2.5]), np.array([3.0, 4.0, 5.0, 6.0])).low is None
