"""The ablations of config/league.yaml change the search that they are made of: the reward's terms, the observation."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from ramp.methods.loader import load_method, parse_params
from ramp.problem.features import FEATURES
from ramp.problem.problem import Run
from ramp.rl.reward import RewardParams, reward_terms
from ramp.scoring.score_type import Score
from ramp.search.journal import ROOT
from ramp.study.validation import read
from ramp.study.variants import overlaid, variant_params
from tests.synthetic import synthetic_problem

VARIANTS = read(Path(ROOT) / "config" / "league.yaml")["variants"]
REWARDS = sorted(name for name, one in VARIANTS.items() if "reward" in one["params"])
MASKED = sorted(name for name, one in VARIANTS.items() if "embedding" in one["params"])
QUICK: dict[str, dict[str, Any]] = {
    # a fast learner: what changes the reward shows in the very next roll-outs
    "ramp_paper": {
        "warmup_episodes": 4,
        "updates_per_episode": 6,
        "sac": {"hidden": 16, "batch_size": 32, "learning_rate": 0.05},
    },
    "ramp": {
        "clone_steps": 20,
        "distil_steps": 5,
        "updates_per_episode": 2,
        "warmup_episodes": 3,
        "refresh": 4,
        "critic_knapsack": 0,
        "sac": {"hidden": 16, "learning_rate": 0.01},
    },
}
BUDGET = 4.65
"""Bits: about half of all random allocations over 3 to 6 bits are within it, so that both sides are seen."""


def searched(method: str, changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of twelve episodes on seven linears; perplexity and KL rank allocations differently."""
    file = load_method(Path(ROOT) / "baselines" / f"{method}.py")
    params = variant_params("quick", file, {}, overlaid(QUICK[method], changes))
    plain = synthetic_problem(layers=1, budget=BUDGET).evaluate

    def evaluate(choice: np.ndarray) -> Score:
        kl = plain(choice).kl
        nll = 3 + 0.3 * kl + 0.01 * float(np.sin(choice.sum()))
        return Score(kl, float(np.exp(nll)), nll, 2048)

    rows: list[dict[str, Any]] = []
    problem = synthetic_problem(layers=1, budget=BUDGET, evaluate=evaluate)
    with TemporaryDirectory() as folder:
        run = Run(0, 12, Path(folder), rows.append, method)
        file.allocate(problem, parse_params(file, params), run)
    return rows


@cache
def unchanged(method: str) -> list[tuple[int, float]]:
    return executed(searched(method, {}))


def executed(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return what was tried: bytes and KL of every episode, whatever was paid for it."""
    return [(row["bytes"], row["kl"]) for row in rows]


@pytest.mark.parametrize("name", REWARDS)
def test_every_term_of_the_reward_changes_the_unmasked_search(name: str) -> None:
    """Other pay for the same first episodes, and then other episodes."""
    rows = searched("ramp_paper", VARIANTS[name]["params"])
    before = unchanged("ramp_paper")
    warmup = QUICK["ramp_paper"]["warmup_episodes"]
    assert executed(rows)[:warmup] == before[:warmup]
    assert executed(rows) != before


@pytest.mark.parametrize("name", MASKED)
def test_what_the_policy_sees_changes_the_search(name: str) -> None:
    rows = searched("ramp", VARIANTS[name]["params"])
    assert executed(rows)[0] == unchanged("ramp")[0]  # the start
    assert executed(rows) != unchanged("ramp")


def test_the_shown_parts_cover_the_embedding_and_keep_what_steps_change() -> None:
    dynamic = {feature.name for feature in FEATURES if feature.dynamic}
    shown = [set(VARIANTS[name]["params"]["embedding"]) for name in MASKED]
    assert len(shown) == 4
    assert all(dynamic <= each for each in shown)
    parts = [each - dynamic for each in shown if each - dynamic]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(FEATURES) - len(dynamic)


def symmetric(name: str) -> RewardParams:
    method = load_method(Path(ROOT) / "baselines" / "ramp_paper.py")
    return RewardParams(**variant_params(name, method, {}, VARIANTS[name]["params"])["reward"])


def test_symmetric_penalties_depend_on_the_distance_to_the_budget_alone() -> None:
    """But for the cliff, which the flat one takes away too."""
    score = Score(kl=0.2, ppl=30.0, nll=3.4, tokens=10)
    for name, cliff in (("ramp_paper_symmetric", 5.0), ("ramp_paper_flat", 0.0)):
        params = symmetric(name)
        for distance in (1, 13, 40):
            under, over = (reward_terms(score, 100 + sign * distance, 100, params, 3.0) for sign in (-1, 1))
            assert under["total"] - over["total"] == pytest.approx(cliff)
            assert under["saving"] == pytest.approx(-0.1 * distance)
            assert over["overshoot"] == pytest.approx(-0.1 * distance)
        assert reward_terms(score, 100, 100, params, 3.0)["total"] == pytest.approx(-4.0)
