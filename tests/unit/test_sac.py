"""The learner: known optima of small problems, masks, the temperature."""

import numpy as np
import torch

from ramp.rl.sac import Demonstrations, DiscreteSAC
from ramp.rl.sac_params import SacParams

SMALL = {"hidden": 32, "batch_size": 64, "learning_rate": 3e-3, "tau": 0.05}


def test_learns_the_values_of_a_bandit() -> None:
    """One step, rewards known by state: the critics find them, the policy takes the best allowed arm."""
    rewards = np.array([[1.0, 0.0, -1.0], [-1.0, 0.5, 2.0]], dtype=np.float32)
    allowed = np.array([[True, True, True], [True, True, False]])  # the best arm of the second state is masked
    agent = DiscreteSAC(2, 3, SacParams(**SMALL, rho_end=0.1), seed=1)
    rng = np.random.default_rng(0)
    for _ in range(300):
        state = int(rng.integers(2))
        arm = int(rng.choice(np.flatnonzero(allowed[state])))
        agent.replay.add_episode(
            np.eye(2, dtype=np.float32)[[state]], np.array([arm]), rewards[state, [arm]], allowed[[state]]
        )
    for _ in range(400):
        agent.update()
    values = agent.critic(torch.eye(2)).mean(dim=0).detach().numpy()
    assert np.abs(values - rewards)[allowed].max() < 0.1
    chances = agent.log_policy(torch.eye(2), torch.from_numpy(allowed)).exp().detach().numpy()
    assert chances.argmax(axis=1).tolist() == [0, 1]
    assert chances[1, 2] == 0.0


def test_temperature_steers_the_entropy_to_its_share() -> None:
    """With all rewards equal the policy is free: its entropy must settle near rho * log(allowed actions)."""
    agent = DiscreteSAC(1, 4, SacParams(**SMALL, rho_end=0.6, alpha_start=1.0), seed=2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        arm = rng.integers(0, 3, 1)
        agent.replay.add_episode(np.ones((1, 1), np.float32), arm, 0.1 * arm, np.array([[True, True, True, False]]))
    entropy = [agent.update(0.6)["entropy"] for _ in range(1500)]
    assert abs(np.mean(entropy[-200:]) - 0.6 * np.log(3)) < 0.12


def test_a_state_with_one_action_leaves_the_temperature_alone() -> None:
    agent = DiscreteSAC(1, 2, SacParams(**SMALL), seed=0)
    for _ in range(10):
        agent.replay.add_episode(
            np.ones((1, 1), np.float32), np.zeros(1, np.int64), np.ones(1, np.float32), np.array([[True, False]])
        )
    before = agent.alpha
    for _ in range(5):
        agent.update()
    assert agent.alpha == before
    assert all(np.isfinite(p.detach()).all() for p in agent.actor.parameters())


def test_cloning_imitates() -> None:
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(200, 6)).astype(np.float32)
    actions = (obs[:, 0] > 0).astype(np.int64) + (obs[:, 1] > 0)
    agent = DiscreteSAC(6, 3, SacParams(**SMALL), seed=0)
    agent.clone(Demonstrations(obs, np.ones((200, 3), dtype=bool), actions), 300)
    agreed = [agent.act(o, np.ones(3, dtype=bool), greedy=True) == a for o, a in zip(obs, actions, strict=True)]
    assert np.mean(agreed) > 0.95


def test_replay_is_a_ring_with_returns_to_go() -> None:
    agent = DiscreteSAC(1, 2, SacParams(**SMALL, replay_capacity=5), seed=0)
    for first in (0, 3, 6):
        agent.replay.add_episode(
            np.arange(first, first + 3, dtype=np.float32)[:, None],
            np.zeros(3, np.int64),
            np.array([1, 2, 3], dtype=np.float32),
            np.ones((3, 2), dtype=bool),
        )
    replay = agent.replay
    assert replay.size == 5
    assert sorted(replay.data["obs"][:5, 0]) == [4, 5, 6, 7, 8]
    assert replay.data["to_go"][replay.data["obs"][:5, 0] == 6] == 6
    assert replay.data["done"][:5].sum() == 2
