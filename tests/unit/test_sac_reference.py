"""The reference run of our SAC in miniature: what it compares, what it writes; no test asserts a return of learning."""

from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from benchmarks import sac_reference
from benchmarks.sac_reference import CARTPOLE, PENDULUM, drive, greedy_returns, learn_continuous, measure
from ramp.rl.sac_continuous import ContinuousSAC
from ramp.rl.sac_discrete import DiscreteSAC
from tests.sealed import read_json


def test_a_piece_has_every_seed_of_every_learner(tmp_path: Path) -> None:
    args = SimpleNamespace(
        tasks=[CARTPOLE, PENDULUM], seeds=[0, 1], discrete_steps=40, continuous_steps=220, warmup=215, episodes=2,
        threads=1,
    )  # fmt: skip
    measure(args).write(tmp_path / "piece.json")
    piece = read_json(tmp_path / "piece.json")
    discrete, continuous, seconds = piece["rows"]
    assert discrete["reference"] == 500
    greedy = [one["greedy"] for one in piece["detail"]["discrete"]]
    assert [len(returns) for returns in greedy] == [2, 2]
    assert discrete["ours"] == pytest.approx(np.mean(greedy))
    assert "0 of 2 reach the task's threshold of 475" in discrete["note"]
    for name, key in (("ours", "continuous"), ("reference", "stable-baselines3")):
        returns = [one["greedy"] for one in piece["detail"][key]]
        assert continuous[name] == pytest.approx(np.mean(returns), abs=0.01)
        assert [len(one["while_learning"]) for one in piece["detail"][key]] == [1, 1]  # of 200 steps each
    assert seconds["unit"] == "processor s"
    assert "--tasks CartPole-v1 Pendulum-v1 --seeds 0 1 --discrete-steps 40" in discrete["command"]


def test_greedy_episodes_start_alike_and_the_learners_are_the_searchs() -> None:
    act = learn_continuous(30, 0, 20).act
    assert greedy_returns(PENDULUM, act, 2) == greedy_returns(PENDULUM, act, 2)
    assert sac_reference.DiscreteSAC is DiscreteSAC
    assert sac_reference.ContinuousSAC is ContinuousSAC


def test_a_time_limit_ends_an_episode_but_not_its_value() -> None:
    env = gymnasium.make(CARTPOLE, max_episode_steps=3)
    kept: list[bool] = []
    updates: list[int] = []
    returns = drive(
        env,
        lambda observation, warm: 0,
        lambda observation, action, reward, after, ended: kept.append(ended),
        lambda: updates.append(1),
        steps=9,
        warmup=4,
        seed=0,
    )
    assert returns == [3.0, 3.0, 3.0]
    assert not any(kept)
    assert len(updates) == 5
