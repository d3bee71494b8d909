"""The environment: exact masks, the reward's terms, shaping that changes no return."""

import numpy as np
import pytest

from ramp.problem.features import PREVIOUS_BITS, REMAINING_BUDGET, normalise
from ramp.problem.problem import Evaluator
from ramp.rl.environment import AllocationEnv
from ramp.rl.reward import RewardParams, reward_terms, shaping_costs
from ramp.scoring.score_type import Score
from tests.synthetic import synthetic_problem


def test_every_masked_episode_meets_the_budget_and_masks_are_tight() -> None:
    problem = synthetic_problem(budget=3.2)
    env = AllocationEnv(problem, masked=True)
    rng = np.random.default_rng(0)
    for _ in range(20):
        _, info = env.reset()
        done = False
        while not done:
            index, left, mask = env.index, env.left, info["action_mask"]
            for action, allowed in enumerate(mask):  # brute force: cheapest completion after this action
                rest = problem.bytes[index + 1 :].min(axis=1).sum()
                assert allowed == (problem.bytes[index, action] + rest <= left)
            _, _, done, _, info = env.step(rng.integers(0, 4))
        assert info["feasible"]
        assert info["bytes"] == problem.bytes_of(info["choice"]) <= problem.budget_bytes


def test_an_infeasible_action_executes_the_nearest_feasible_one() -> None:
    problem = synthetic_problem(budget=3.0)
    env = AllocationEnv(problem, masked=True)
    env.reset()
    *_, info = env.step(3)
    assert info["executed_action"] == 0
    free = AllocationEnv(problem, masked=False)
    free.reset()
    *_, info = free.step(3)
    assert info["executed_action"] == 3


def test_observation_holds_previous_bits_and_remaining_budget() -> None:
    problem = synthetic_problem()
    env = AllocationEnv(problem)
    observation, _ = env.reset()
    assert observation[PREVIOUS_BITS] == pytest.approx(normalise(PREVIOUS_BITS, 0.0))
    assert np.array_equal(observation[:8], problem.features[0, :8])
    observation, *_ = env.step(1)
    low, high = problem.bytes[1:].min(axis=1).sum(), problem.bytes[1:].max(axis=1).sum()
    share = (problem.budget_bytes - problem.bytes[0, 1] - low) / (high - low)
    assert observation[PREVIOUS_BITS] == pytest.approx(normalise(PREVIOUS_BITS, 4 / 6))
    assert observation[REMAINING_BUDGET] == pytest.approx(normalise(REMAINING_BUDGET, share))


def test_reward_terms_by_hand() -> None:
    params = RewardParams(k_q=10, k_b=1, k_o=2, k_c=5)
    score = Score(kl=0.2, ppl=30.0, nll=3.4, tokens=1)
    under = reward_terms(score, 90, 100, params, nll_float=3.0)
    assert under["quality"] == pytest.approx(-2.0)
    assert under["saving"] == pytest.approx(0.1)
    assert under["overshoot"] == under["cliff"] == 0
    over = reward_terms(score, 110, 100, params, nll_float=3.0)
    assert over["cliff"] == -5
    assert over["overshoot"] == pytest.approx(-0.2)
    assert over["saving"] == 0
    assert over["total"] == pytest.approx(-7.2)
    perplexity = RewardParams(quality="log_ppl", k_q=10)
    assert reward_terms(score, 100, 100, perplexity, nll_float=3.0)["quality"] == pytest.approx(-4.0)
    assert reward_terms(score, 100, 100, perplexity, nll_float=9.0)["quality"] == 0  # better than float is no gain


def test_an_evaluation_that_is_not_finite_is_the_worst_and_stays_finite() -> None:
    problem = synthetic_problem(evaluate=Evaluator(lambda choice: Score(float("nan"), float("nan"), float("nan"), 5)))
    steps, info = AllocationEnv(problem).play(np.zeros(problem.n, dtype=int))
    assert np.isinf(info["score"].kl)
    assert np.isfinite(steps.rewards).all()
    assert steps.rewards[-1] == pytest.approx(-10 * 20, abs=1.0)


def test_shaping_changes_no_return_and_pays_nothing_for_the_relaxed_optimum() -> None:
    problem = synthetic_problem(layers=4)
    costs = shaping_costs(problem.proxy, problem.bytes, problem.budget_bytes)
    assert costs.min() == 0
    assert np.array_equal(costs.min(axis=1), np.zeros(problem.n))
    plain, shaped = AllocationEnv(problem), AllocationEnv(problem, shaping=costs)
    rng = np.random.default_rng(1)
    for choice in [rng.integers(0, 4, problem.n) for _ in range(5)]:
        bare, info = plain.play(choice)
        dense, _ = shaped.play(info["choice"])
        assert dense.rewards.sum() == pytest.approx(bare.rewards.sum(), abs=1e-4)
        assert not np.allclose(dense.rewards[:-1], 0)
        assert np.allclose(bare.rewards[:-1], 0)
    best, _ = shaped.play(costs.argmin(axis=1))
    assert np.allclose(best.rewards[:-1], 0)


def test_walk_evaluates_nothing_and_play_sees_the_same() -> None:
    problem = synthetic_problem()
    env = AllocationEnv(problem)
    rng = np.random.default_rng(3)
    walked = env.walk(lambda index, observation, mask: rng.choice(np.flatnonzero(mask)))
    assert problem.evaluate.evals == 0
    played, _ = env.play(walked.actions)
    assert problem.evaluate.evals == 1
    for name in ("observations", "masks", "actions"):
        assert np.array_equal(getattr(walked, name), getattr(played, name))
