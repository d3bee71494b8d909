"""The environments: exact masks, the reward's terms, shaping, gymnasium's and stable-baselines3's checks, HAQ's map."""

import threading
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_for_stable_baselines

from ramp.problem.features import PREVIOUS_BITS, REMAINING_BUDGET, normalise
from ramp.problem.problem import Evaluator
from ramp.rl.environment import AllocationEnv, ContinuousAllocationEnv, middle, width_index
from ramp.rl.reward import RewardParams, reward_terms, shaping_costs
from ramp.rl.sac_continuous import ContinuousSAC, width_layers
from ramp.rl.sac_params import ContinuousSacParams
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


@pytest.mark.parametrize("widths", [(3, 4, 5, 6), (3, "3g16", 4, "4g16")])
def test_observation_holds_previous_bits_and_remaining_budget(widths: tuple) -> None:
    """Scales count as bits where groups differ."""
    problem = synthetic_problem(widths=widths)
    sizes = problem.bytes.sum(axis=0)
    expected = [4, 6] if widths[0:2] == (3, 4) else 8 * sizes[[1, 3]] / sum(x.params for x in problem.linears)
    assert problem.rates[[1, 3]].tolist() == pytest.approx(list(expected))
    env = AllocationEnv(problem)
    observation, _ = env.reset()
    assert observation[PREVIOUS_BITS] == pytest.approx(normalise(PREVIOUS_BITS, 0.0))
    assert np.array_equal(observation[:8], problem.features[0, :8])
    observation, *_ = env.step(1)
    low, high = problem.bytes[1:].min(axis=1).sum(), problem.bytes[1:].max(axis=1).sum()
    share = (problem.budget_bytes - problem.bytes[0, 1] - low) / (high - low)
    assert observation[PREVIOUS_BITS] == pytest.approx(normalise(PREVIOUS_BITS, problem.rates[1] / problem.rates[-1]))
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


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", [AllocationEnv, ContinuousAllocationEnv])
def test_both_checkers_pass(kind: type, masked: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")  # HAQ's action lies in [0, 1]
        warnings.filterwarnings("ignore", message=".*Not able to test alternative render modes.*")
        check_env(kind(synthetic_problem(), masked=masked), skip_render_check=True)
        check_for_stable_baselines(kind(synthetic_problem(), masked=masked))


@pytest.mark.parametrize("name", ["Allocation-v0", "ContinuousAllocation-v0"])
def test_others_make_it_by_name(name: str) -> None:
    """The problem is handed over, not copied: it may hold a whole model, and it counts its evaluations."""
    problem = synthetic_problem()
    lock = threading.Lock()  # copying this raises

    def evaluate(choice: np.ndarray) -> Score:
        with lock:
            return Score(0.1, 22.0, 3.1, 100)

    problem = replace(problem, evaluate=Evaluator(evaluate))
    env = gymnasium.make(f"ramp.rl.environment:ramp/{name}", problem=problem)
    _, info = env.reset(seed=0)
    assert info["action_mask"].shape == (4,)
    env.action_space.seed(0)
    done = False
    while not done:
        _, _, done, _, info = env.step(env.action_space.sample())
    assert problem.evaluate.evals == 1
    assert problem.is_feasible(info["choice"])


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(2, 6), st.integers(0, 4))
def test_the_map_is_haqs(action: float, low: int, more: int) -> None:
    high = low + more
    bits = round(low - 0.5 + action * (high - low + 1))  # equal shares; Python and HAQ round halves to even alike
    index = width_index(action, more + 1)
    assert index in range(more + 1)
    border = action * (more + 1)
    if abs(border - round(border)) > 1e-9:
        assert low + index == bits


@settings(deadline=None)
@given(st.integers(1, 9).flatmap(lambda count: st.tuples(st.integers(0, count - 1), st.just(count))))
def test_the_middle_of_a_share_stands_for_its_width(pair: tuple[int, int]) -> None:
    assert width_index(middle(*pair), pair[1]) == pair[0]


def test_it_executes_what_the_discrete_one_does_and_says_what_that_was() -> None:
    problem = synthetic_problem(budget=3.2)
    plain, continuous = AllocationEnv(problem), ContinuousAllocationEnv(problem)
    rng = np.random.default_rng(0)
    for _ in range(5):
        one, _ = plain.reset()
        two, _ = continuous.reset()
        done, moved = False, 0
        while not done:
            assert np.array_equal(one, two)
            action = rng.random(1)
            one, reward, done, _, plain_info = plain.step(width_index(float(action[0]), 4))
            two, same_reward, _, _, info = continuous.step(action)
            assert reward == same_reward
            executed = float(info["executed_action"][0])
            assert width_index(executed, 4) == plain_info["executed_action"]
            moved += executed != np.float32(action[0])
        assert np.array_equal(plain_info["choice"], info["choice"])
        assert moved  # at this budget wide widths were asked for in vain


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_the_policy_file_says_what_the_continuous_actor_does(count: int) -> None:
    learner = ContinuousSAC(11, 1, ContinuousSacParams(hidden=16), seed=3)
    with torch.no_grad():
        learner.actor[-1].weight *= 10  # so that every share is met
    states = np.random.default_rng(0).normal(size=(300, 11)).astype(np.float32)
    x = states
    for depth, (weight, bias) in enumerate(width_layers(learner, count)):
        x = (np.maximum(x, 0) if depth else x) @ weight.T + bias
    asked = [width_index((float(learner.act(state, greedy=True)[0]) + 1) / 2, count) for state in states]
    assert set(asked) == set(range(count))
    assert np.mean(x.argmax(axis=1) == asked) > 0.99  # float32 at the borders
    allowed = np.where(np.arange(count) < max(count - 1, 1), x, -np.inf).argmax(axis=1)
    assert np.mean(allowed == np.minimum(asked, max(count - 2, 0))) > 0.99  # the nearest where the widest is masked
