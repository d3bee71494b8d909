"""Switches of the search: parts of text, the limit of updates, hidden numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.search_lab import Lab, LabParams, try_variant
from ramp.agent.agent import Agent
from ramp.agent.params import RampParams
from ramp.allocators import knapsack
from ramp.problem.features import FEATURES, EmbeddingError, feature_mask
from ramp.problem.problem import AllocationError, Run
from ramp.rl.environment import AllocationEnv
from ramp.rl.policy import load_policy
from tests.synthetic import synthetic_problem

SMALL: dict[str, Any] = {
    "clone_steps": 5,
    "distil_steps": 5,
    "updates_per_episode": 1,
    "warmup_episodes": 3,
    "refresh": 4,
    "sac": {"hidden": 8, "entropy_in_target": False},
}
PARTS: dict[str, Any] = {"pool_windows": 32, "part_windows": 8}


def played(
    folder: Path, switches: dict[str, Any], evals: int = 16, seed: int = 0
) -> tuple[Agent, list[dict[str, Any]]]:
    """A whole search in the laboratory: the agent at its end, and its rows."""
    params = RampParams(**{**SMALL, **switches})
    rows: list[dict[str, Any]] = []
    problem = Lab(LabParams(blocks=2), 1).problem(params, evals)
    agent = Agent(problem, params, Run(seed, evals, folder, rows.append))
    while not agent.done:
        agent.play_episode()
    return agent, rows


def test_parts_are_compared_by_what_the_start_scores_on_them(tmp_path: Path) -> None:
    agent, rows = played(tmp_path, PARTS)
    proposers = [row["proposer"] for row in rows]
    assert proposers[:4] == ["start"] * 4  # once on each part
    assert proposers[-1] == "policy"
    anchors = [part(agent.start).kl for part in agent.problem.search_parts]
    assert rows[3]["kl"] == pytest.approx(np.mean(anchors))
    assert [row["best"] for row in rows[:3]] == [None] * 3  # means over fewer parts are no score to compare with
    assert rows[3]["best"] == rows[3]["kl"]
    part = int(agent.surrogate.texts[1])
    raw = agent.problem.search_parts[part](agent.history.choices[4]).kl
    assert agent.history.kls[4] == pytest.approx(raw / anchors[part] * np.mean(anchors))
    assert len(agent.surrogate.losses) == len(rows) - 3  # the start counts once, by its mean
    # 16 evaluations, 3 kept for the end, a part costs half of one
    assert len(rows) == 26
    assert agent.text.spent == 13
    counts = np.bincount(agent.surrogate.texts[1:], minlength=4)
    assert counts.max() - counts.min() <= 1  # parts take turns


def test_updates_have_a_limit_of_their_own(tmp_path: Path) -> None:
    """Spread evenly over a long search; a short one takes as many as it may an episode; 0 lifts the limit."""
    for most, total, evals, expected in ((32, 3200, 100, 32), (32, 3200, 1000, 4), (32, 10, 1000, 1), (7, 0, 1000, 7)):
        params = RampParams(**{**SMALL, "updates_per_episode": most, "updates_total": total})
        agent = Agent(synthetic_problem(), params, Run(0, evals, tmp_path, lambda row: None))
        assert agent.updates == expected
    agent, _ = played(tmp_path, {"updates_per_episode": 5, "updates_total": 32}, evals=16)
    assert agent.learner.updates == 2 * (16 - SMALL["warmup_episodes"])


def test_too_few_evaluations_for_the_pool_and_a_pool_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AllocationError, match="4 parts"):
        played(tmp_path, PARTS, evals=6)
    params = RampParams(**PARTS)
    with pytest.raises(AllocationError, match="in parts"):
        Agent(synthetic_problem(), params, Run(0, 20, tmp_path, lambda row: None))
    for wrong in ({"pool_windows": 12}, {"pool_windows": 16, "warm_start": False}):
        with pytest.raises(ValidationError, match=r"multiple|warm_start"):
            RampParams(**wrong)


def test_hidden_numbers_reach_neither_policy_nor_file(tmp_path: Path) -> None:
    shown = ("depth", "log10_absmax", "remaining_budget")
    agent, _ = played(tmp_path, {"embedding": shown}, evals=6)
    agent.finish()
    hidden = [k for k, feature in enumerate(FEATURES) if feature.name not in shown]
    assert not agent.learner.replay.data["obs"][:, hidden].any()
    assert agent.learner.replay.data["obs"][:, [4]].any()
    policy = load_policy(tmp_path)
    assert not policy.layers[0][0][:, hidden].any()
    # so that a plain environment, as a transfer has it, gives the allocation of the masked one
    assert np.array_equal(policy.allocation(AllocationEnv(agent.problem)), agent.greedy())
    with pytest.raises(EmbeddingError, match="deepness"):
        feature_mask(["deepness"])


def test_the_laboratory_counts_every_token_and_knows_the_truth() -> None:
    lab = Lab(LabParams(blocks=2, luck=0.0, luck_window=0.0), 0)
    start = knapsack.solve(lab.proxy, lab.sizes, lab.budget)
    many = lab.problem(RampParams(pool_windows=4096, part_windows=4096), 10).search_parts[0]
    assert many(start).kl == pytest.approx(lab.held(start), rel=0.03)
    found = try_variant(lab, {}, 8, 0)
    # proxy, 8 evaluations, at least two finalists
    assert found.tokens >= 7 * 128 * 16 + 8 * 2048 + 2 * 2048
    again = try_variant(lab, {}, 8, 0)
    assert (found.held, found.seen, found.tokens) == (again.held, again.seen, again.tokens)
