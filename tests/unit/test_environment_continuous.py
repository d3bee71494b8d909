"""Both environments under gymnasium's and stable-baselines3's checkers; registration; HAQ's map."""

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

from ramp.problem.problem import Evaluator
from ramp.rl.environment import AllocationEnv, ContinuousAllocationEnv, middle, width_index
from ramp.rl.sac_continuous import ContinuousSAC, width_layers
from ramp.rl.sac_params import ContinuousSacParams
from ramp.scoring.score_type import Score
from tests.synthetic import synthetic_problem


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
