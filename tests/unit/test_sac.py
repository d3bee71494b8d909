"""The learners: known optima of small problems, masks, the temperature, and soft values that are known.

With the temperature held still, maximum-entropy values follow from soft value iteration in float64 (Haarnoja et al.
2017, arXiv:1702.08165): V(s) = alpha * log sum_a exp(Q(s, a) / alpha), and the policy is exp((Q - V) / alpha). A sign
or a factor wrong in target, actor or temperature fails.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.rl.sac_continuous import ContinuousSAC, squashed
from ramp.rl.sac_discrete import Demonstrations, DiscreteSAC
from ramp.rl.sac_params import ContinuousSacParams, SacParams

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
    agent = DiscreteSAC(1, 4, SacParams(**{**SMALL, "learning_rate": 2e-2}, rho_end=0.6, alpha_start=1.0), seed=2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        arm = rng.integers(0, 3, 1)
        agent.replay.add_episode(np.ones((1, 1), np.float32), arm, 0.1 * arm, np.array([[True, True, True, False]]))
    entropy = [agent.update(0.6)["entropy"] for _ in range(400)]
    assert abs(np.mean(entropy[-100:]) - 0.6 * np.log(3)) < 0.12


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


QUICK = {"hidden": 32, "batch_size": 32, "learning_rate": 3e-3, "tau": 0.05}
STATES, GAMMA, ALPHA = 5, 0.9, 0.3


def chain_step(state: int, action: int) -> tuple[float, int | None]:
    """Action 1 goes right, and out of the last state with a reward of 1; action 0 goes left for 0.1."""
    if action == 1:
        return (1.0, None) if state == STATES - 1 else (0.0, state + 1)
    return 0.1, max(state - 1, 0)


def soft_values(gamma: float, alpha: float) -> np.ndarray:
    """Soft Q [states, 2] of the chain by value iteration."""
    q = np.zeros((STATES, 2))
    for _ in range(500):
        v = alpha * np.logaddexp.reduce(q / alpha, axis=1)
        for state in range(STATES):
            for action in (0, 1):
                reward, after = chain_step(state, action)
                q[state, action] = reward + (0.0 if after is None else gamma * v[after])
    return q


def fill_with_the_chain(agent: DiscreteSAC) -> None:
    """Each of the ten transitions once; sampling with replacement does the rest."""
    states, allowed = np.eye(STATES, dtype=np.float32), np.ones(2, dtype=bool)
    for state in range(STATES):
        for action in (0, 1):
            reward, after = chain_step(state, action)
            last = None if after is None else (states[after], allowed)
            rewards = np.array([reward], dtype=np.float32)
            agent.replay.add_episode(states[[state]], np.array([action]), rewards, allowed[None], last)


def test_discrete_values_and_policy_are_those_of_soft_value_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = DiscreteSAC(STATES, 2, SacParams(**QUICK, gamma=GAMMA, alpha_start=ALPHA), seed=0)
    monkeypatch.setattr(agent, "_update_temperature", lambda *_: None)
    fill_with_the_chain(agent)
    for _ in range(900):
        agent.update()
    states = torch.eye(STATES)
    truth = soft_values(GAMMA, ALPHA)
    assert np.abs(agent.critic(states).detach().numpy() - truth).max() < 0.08
    chances = agent.log_policy(states, torch.ones(STATES, 2, dtype=torch.bool)).exp().detach().numpy()
    expected = np.exp(truth / ALPHA) / np.exp(truth / ALPHA).sum(axis=1, keepdims=True)
    assert np.abs(chances - expected).max() < 0.08
    hard = soft_values(GAMMA, 1e-3)
    assert np.abs(truth - hard).min(axis=1).max() > 0.3  # what a target without entropy would have learned instead


def test_an_episode_that_was_cut_off_is_worth_what_comes_after() -> None:
    """One step of reward 1 for ever: 1 / (1 - gamma) where a time limit ends it, 1 where it really ends."""
    values = {}
    for cut_off in (True, False):
        agent = DiscreteSAC(
            1, 2, SacParams(**{**QUICK, "learning_rate": 1e-2}, gamma=0.5, entropy_in_target=False), seed=0
        )
        one, allowed = np.ones((1, 1), np.float32), np.ones((1, 2), dtype=bool)
        for action in (0, 1):
            last = (one[0], allowed[0]) if cut_off else None
            agent.replay.add_episode(one, np.array([action]), np.ones(1, np.float32), allowed, last)
        for _ in range(200):
            agent.update()
        values[cut_off] = agent.critic(torch.ones(1, 1)).mean().item()
    assert values[True] == pytest.approx(2.0, abs=0.1)
    assert values[False] == pytest.approx(1.0, abs=0.05)


@given(st.floats(-3, 3), st.floats(-3, 1), st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_log_density_is_torchs_own(mean: float, log_deviation: float, noise: float) -> None:
    """Against torch.distributions in float64, two numbers per action."""
    tensors = [torch.tensor([[value, -value / 2]], dtype=torch.float64) for value in (mean, log_deviation, noise)]
    action, found = squashed(*tensors)
    base = torch.distributions.Normal(tensors[0], tensors[1].exp())
    known = torch.distributions.TransformedDistribution(
        base, torch.distributions.transforms.TanhTransform(cache_size=1)
    )
    u = tensors[0] + tensors[1].exp() * tensors[2]
    [transform] = known.transforms
    expected = (base.log_prob(u) - transform.log_abs_det_jacobian(u, torch.tanh(u))).sum(dim=-1)
    assert torch.allclose(action, torch.tanh(u))
    assert torch.allclose(found, expected, atol=1e-9)


def test_log_density_stays_finite_far_out_in_float32() -> None:
    action, density = squashed(torch.full((1, 1), 40.0), torch.zeros(1, 1), torch.zeros(1, 1))
    assert float(action) == 1.0
    assert torch.isfinite(density).all()


def continuous(alpha: float = 0.2, seed: int = 0, **changed: float) -> ContinuousSAC:
    return ContinuousSAC(2, 1, ContinuousSacParams(**{**QUICK, "alpha_start": alpha, **changed}), seed)


def test_continuous_bandit_finds_the_best_action_and_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """r = -2 (a - best)^2 in two states: the critics learn r, the greedy action is the best one."""
    best = np.array([0.4, -0.6])
    agent = continuous(alpha=0.02, learning_rate=1e-2)
    monkeypatch.setattr(agent, "_update_temperature", lambda *_: None)
    rng = np.random.default_rng(0)
    for _ in range(300):
        state, action = int(rng.integers(2)), rng.uniform(-1, 1, (1, 1)).astype(np.float32)
        reward = np.array([-2 * (action[0, 0] - best[state]) ** 2], dtype=np.float32)
        agent.replay.add_episode(np.eye(2, dtype=np.float32)[[state]], action, reward)
    for _ in range(400):
        agent.update()
    found = [float(agent.act(state, greedy=True)[0]) for state in np.eye(2, dtype=np.float32)]
    assert np.abs(np.array(found) - best).max() < 0.12
    pair = torch.tensor([[1.0, 0.0, 0.9], [0.0, 1.0, 0.9]])
    values = agent.critic(pair).mean(dim=0)[:, 0].detach().numpy()
    assert np.abs(values + 2 * (0.9 - best) ** 2).max() < 0.3


def test_continuous_target_adds_the_entropy_of_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps without any reward: the first is worth gamma * alpha * entropy of a nearly uniform policy, log 2."""
    agent = continuous(alpha=0.5, gamma=0.9, learning_rate=1e-2)
    monkeypatch.setattr(agent, "_update_temperature", lambda *_: None)
    rng = np.random.default_rng(0)
    states = np.eye(2, dtype=np.float32)
    for _ in range(200):
        agent.replay.add_episode(states, rng.uniform(-1, 1, (2, 1)).astype(np.float32), np.zeros(2, np.float32))
    for _ in range(300):
        agent.update()
    pair = torch.tensor([[1.0, 0.0, 0.3], [0.0, 1.0, 0.3]])
    first, second = agent.critic(pair).mean(dim=0)[:, 0].tolist()
    assert second == pytest.approx(0.0, abs=0.03)
    assert first == pytest.approx(0.9 * 0.5 * math.log(2), abs=0.05)


def test_continuous_temperature_steers_the_entropy_to_its_target() -> None:
    """Rewards that would leave the policy wide at the first temperature: its entropy must settle near the target."""
    agent = continuous(alpha=0.5, target_entropy=-0.5, learning_rate=1e-2)
    rng = np.random.default_rng(0)
    for _ in range(200):
        action = rng.uniform(-1, 1, (1, 1)).astype(np.float32)
        agent.replay.add_episode(np.ones((1, 2), np.float32), action, -2 * action[0] ** 2)
    stats = [agent.update() for _ in range(500)]
    assert np.mean([each["entropy"] for each in stats[-100:]]) == pytest.approx(-0.5, abs=0.15)
    assert stats[-1]["alpha"] < stats[0]["alpha"]
