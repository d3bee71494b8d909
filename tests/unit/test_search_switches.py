"""Switches of the search: parts of text, races, mirrored exchanges, hidden numbers, other budgets, knapsacks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.search_lab import Lab, LabParams, try_variant
from ramp.agent.agent import Agent
from ramp.agent.finalists import paired, race
from ramp.agent.params import RampParams
from ramp.agent.proposals import mirrored_swaps
from ramp.allocators import knapsack
from ramp.problem.features import FEATURES, EmbeddingError
from ramp.problem.problem import AllocationError, Problem, Run
from ramp.rl.environment import AllocationEnv
from ramp.rl.feature_mask import veil
from ramp.rl.policy import Policy, load_policy
from ramp.scoring.score import Score
from tests.synthetic import synthetic_problem

SMALL: dict[str, Any] = {
    "clone_steps": 5,
    "distil_steps": 5,
    "updates_per_episode": 1,
    "warmup_episodes": 3,
    "refresh": 4,
    "sac": {"hidden": 8, "entropy_in_target": False},
}
PARTS: dict[str, Any] = {"pool_windows": 32, "part_windows": 8, "selection_windows": 32}


def played(
    folder: Path, switches: dict[str, Any], evals: int = 16, seed: int = 0
) -> tuple[Agent, list[dict[str, Any]]]:
    """A whole search in the laboratory: the agent at its end, and its rows."""
    params = RampParams(**{**SMALL, **switches})
    rows: list[dict[str, Any]] = []
    problem = Lab(LabParams(blocks=2), 1).problem(params, evals)
    agent = Agent(problem, params, Run(seed, evals, folder, folder, rows.append))
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
    part = int(agent.surrogate.texts[1])
    raw = agent.problem.search_parts[part](agent.choices[4]).kl
    assert agent.kls[4] == pytest.approx(raw / anchors[part] * np.mean(anchors))
    assert len(agent.surrogate.losses) == len(rows) - 3  # the start counts once, by its mean
    # 16 evaluations, 3 kept for the end, a part costs half of one
    assert len(rows) == 26
    assert agent.turns.spent == 13
    counts = np.bincount(agent.surrogate.texts[1:], minlength=4)
    assert counts.max() - counts.min() <= 1  # parts take turns


def test_updates_have_a_limit_of_their_own(tmp_path: Path) -> None:
    """Spread evenly over a long search; a short one takes as many as it may an episode; 0 lifts the limit."""
    for most, total, evals, expected in ((32, 3200, 100, 32), (32, 3200, 1000, 4), (32, 10, 1000, 1), (7, 0, 1000, 7)):
        params = RampParams(**{**SMALL, "updates_per_episode": most, "updates_total": total})
        agent = Agent(synthetic_problem(), params, Run(0, evals, tmp_path, tmp_path, lambda row: None))
        assert agent.updates == expected
    agent, _ = played(tmp_path, {"updates_per_episode": 5, "updates_total": 32}, evals=16)
    assert agent.learner.updates == 2 * (16 - SMALL["warmup_episodes"])


def test_every_evaluation_is_within_the_limit(tmp_path: Path) -> None:
    agent, _ = played(tmp_path, PARTS)
    found = agent.finish()
    parts = sum(part.evals for part in agent.problem.search_parts)
    assert agent.problem.evaluate.evals + agent.problem.part_cost * parts <= 16
    assert agent.problem.is_feasible(found.choice)
    assert "standard error" in found.notes


def test_too_few_evaluations_for_the_pool_and_a_pool_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AllocationError, match="do not cover 4 parts"):
        played(tmp_path, PARTS, evals=6)
    params = RampParams(**PARTS)
    with pytest.raises(AllocationError, match="no search text in parts"):
        Agent(synthetic_problem(), params, Run(0, 20, tmp_path, tmp_path, lambda row: None))
    for wrong in ({"margin": 1.0}, {"pool_windows": 12}, {"pool_windows": 16, "warm_start": False}):
        with pytest.raises(ValidationError, match=r"selection_windows|multiple|warm_start"):
            RampParams(**wrong)


def scorers(table: np.ndarray) -> tuple[list[np.ndarray], list[Any], list[int]]:
    """Candidates numbered by their only entry, scorers of parts that read ``table`` [candidates, parts], and calls."""
    calls = [0] * table.shape[1]

    def scorer(part: int) -> Any:
        def score(choice: np.ndarray) -> Score:
            calls[part] += 1
            kl = float(table[int(choice[0]), part])
            return Score(kl, 1.0, kl, 128)

        return score

    return [np.array([k]) for k in range(len(table))], [scorer(k) for k in range(table.shape[1])], calls


def test_a_race_drops_the_worse_half_and_keeps_the_start() -> None:
    rng = np.random.default_rng(0)
    table = 1.0 + rng.normal(size=(1, 16)) * 0.3 + np.array([0, 0.2, -0.1, 0.1, 0.3, 0.4])[:, None]
    candidates, parts, calls = scorers(table + 0.001 * rng.normal(size=table.shape))
    found = race(candidates, parts, margin=2.0)
    assert found.winner == 2
    assert found.gain == pytest.approx(0.1, abs=0.01)
    assert calls[0] == 6  # all on the first parts
    assert calls[4] == 4  # the start and three of five rivals
    assert calls[15] == 3  # the start and the last two
    assert np.isfinite(found.losses[0]).all()
    everything = race(candidates, parts, margin=2.0, halving=False)
    assert everything.winner == 2
    assert np.isfinite(everything.losses).all()


def test_the_start_stands_unless_it_is_beaten_by_the_margin() -> None:
    rng = np.random.default_rng(1)
    table = np.vstack([np.ones(64), 1 - 0.01 + 0.1 * rng.normal(size=64)])
    candidates, parts, _ = scorers(table)
    gain, error = paired(table[0], table[1])
    assert 0 < gain < 3 * error
    assert race(candidates, parts, margin=0.0).winner == 1
    assert race(candidates, parts, margin=3.0).winner == 0
    assert gain == pytest.approx(np.mean(table[0] - table[1]))
    broken = scorers(np.vstack([np.ones(8), np.full(8, np.inf)]))
    assert race(broken[0], broken[1], margin=0.0).winner == 0
    with pytest.raises(AllocationError, match="at least 4 parts"):
        race(candidates, parts[:3], margin=0.0)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 10))
def test_mirrored_swaps_keep_the_bytes_and_have_the_centre_in_the_middle(seed: int, swaps: int) -> None:
    problem, rng = synthetic_problem(3), np.random.default_rng(seed)
    centre = rng.integers(0, 4, problem.n)
    found = mirrored_swaps(centre, problem.bytes, swaps, rng)
    if found is None:
        return
    there, back = found
    assert problem.bytes_of(there) == problem.bytes_of(back) == problem.bytes_of(centre)
    assert np.array_equal(there + back, 2 * centre)
    assert 0 < np.abs(there - centre).sum() <= 2 * swaps


def test_mirrors_follow_their_swaps(tmp_path: Path) -> None:
    _, rows = played(tmp_path, {"swap_share": 1.0, "incumbent": "mean"}, evals=12)
    proposers = [row["proposer"] for row in rows]
    assert "swap" in proposers
    for where, proposer in enumerate(proposers[:-2]):
        assert (proposers[where + 1] == "mirror") == (proposer == "swap")


def test_hidden_numbers_reach_neither_policy_nor_file(tmp_path: Path) -> None:
    shown = ("depth", "log10_absmax", "remaining_budget")
    agent, _ = played(tmp_path, {"embedding": shown}, evals=6)
    agent.finish()
    hidden = [k for k, feature in enumerate(FEATURES) if feature.name not in shown]
    assert not agent.learner.replay.data["obs"][:, hidden].any()
    assert agent.learner.replay.data["obs"][:, [4]].any()
    policy = load_policy(tmp_path)
    assert not policy.layers[0][0][:, hidden].any()
    # so that a plain environment, as a transfer has it, gives the veiled one's allocation
    assert np.array_equal(policy.allocation(AllocationEnv(agent.problem)), agent.greedy())
    with pytest.raises(EmbeddingError, match="'deepness' is no number"):
        veil(["deepness"])


def test_episodes_at_other_budgets_are_feasible_there_and_judged_here(tmp_path: Path) -> None:
    agent, rows = played(tmp_path, {"budget_share": 1.0, "critic_knapsack": 0.0, "clone_offsets": (-0.2, 0.3)}, 12)
    sizes = [row["bytes"] for row, one in zip(rows, rows, strict=True) if one["proposer"] == "actor"]
    limits = [agent.problem.budget_bytes_at(3.65 + offset) for offset in (-0.2, 0.3)]
    assert max(sizes) > agent.problem.budget_bytes
    assert max(sizes) <= max(limits)
    assert min(sizes) <= min(limits)
    for row in rows:
        assert row["feasible"] == (row["bytes"] <= agent.problem.budget_bytes)
    best = agent.best()
    assert best is not None
    assert agent.problem.is_feasible(best)


def test_finalists_of_the_mean_are_feasible_and_each_is_there_once(tmp_path: Path) -> None:
    agent, _ = played(tmp_path, {"mean_finalists": (0.0, 0.5, 1.0)}, evals=10)
    found = agent.finalists()
    assert np.array_equal(found[0], agent.start)
    assert len({choice.tobytes() for choice in found}) == len(found)
    assert all(agent.problem.is_feasible(choice) for choice in found)
    mean = knapsack.solve(agent.surrogate.mean(), agent.problem.bytes, agent.problem.budget_bytes)
    assert any(np.array_equal(mean, choice) for choice in found)


def blind_policy(preferences: np.ndarray) -> Policy:
    """A policy whose logits are constants, whatever it sees."""
    return Policy([(np.zeros((len(preferences), 11), np.float32), preferences.astype(np.float32))], (3, 4, 5, 6))


def test_the_likeliest_allocation_is_the_knapsack_on_log_probabilities() -> None:
    problem = synthetic_problem(2)
    policy = blind_policy(np.array([0.0, 0.5, 2.0, 1.0]))
    env = AllocationEnv(problem)
    choice = policy.likeliest(env)
    assert problem.is_feasible(choice)
    prices = np.tile(-policy.log_chances(np.zeros(11), np.ones(4, bool)), (problem.n, 1))

    def likelihood(one: np.ndarray) -> float:
        return -float(prices[np.arange(problem.n), one].sum())

    assert likelihood(choice) >= likelihood(policy.allocation(env))
    optimum = knapsack.solve_milp(prices, problem.bytes, problem.budget_bytes)
    assert likelihood(choice) == pytest.approx(likelihood(optimum), rel=1e-6)


@pytest.mark.parametrize(
    "switches",
    [
        {**PARTS, "incumbent": "mean", "mean_finalists": [0.0, 0.3], "surrogate": {"text": 0.2, "pairs": "block"}},
        {"swap_share": 0.5, "budget_share": 0.5, "embedding": ["depth", "weight_std"], "policy_knapsack": True},
    ],
    ids=["parts", "proposals"],
)
def test_a_loaded_agent_goes_on_bit_for_bit(switches: dict[str, Any], tmp_path: Path) -> None:
    params = RampParams(**{**SMALL, **switches})
    straight: list[Any] = []
    broken: list[Any] = []

    def agent(rows: list[Any]) -> Agent:
        problem: Problem = Lab(LabParams(blocks=2), 1).problem(params, 16)
        return Agent(problem, params, Run(0, 16, tmp_path, tmp_path, rows.append))

    whole = agent(straight)
    while not whole.done:
        whole.play_episode()
    torn = agent(broken)
    while not torn.done:
        torn.play_episode()
        state = torn.state_dict()
        torn = agent(broken)
        torn.load_state_dict(state)
    assert json.dumps(straight) == json.dumps(broken)
    assert np.array_equal(whole.greedy(), torn.greedy())
    assert np.array_equal(np.array(whole.finalists()), np.array(torn.finalists()))


def test_the_laboratory_charges_every_token_and_knows_the_truth() -> None:
    lab = Lab(LabParams(blocks=2, luck=0.0, luck_window=0.0), 0)
    start = knapsack.solve(lab.proxy, lab.sizes, lab.budget)
    many = lab.problem(RampParams(pool_windows=4096, part_windows=4096), 10).search_parts[0]
    assert many(start).kl == pytest.approx(lab.held(start), rel=0.03)
    found = try_variant(lab, {"selection_windows": 32}, 8, 0)
    # proxy, 8 evaluations, a race of at most 6 finalists on 4 parts of 1,024 tokens, and the record's two
    assert found.tokens >= 7 * 128 * 16 + 8 * 2048 + 2 * 4 * 1024
    again = try_variant(lab, {"selection_windows": 32}, 8, 0)
    assert (found.held, found.seen, found.tokens) == (again.held, again.seen, again.tokens)
