"""Discrete Soft Actor-Critic (Christodoulou 2019, arXiv:1910.07207), with masked actions.

Stands on torch, its replay and its own parameters alone. ``ActorCritic`` is what ramp/rl/sac_continuous.py shares.

What differs from the paper, each for a reason:
- Actions that a state does not allow have probability zero, in s and in s'.
- The target entropy belongs to the state: rho * log(number of allowed actions). The paper's 0.98 * log|A| never
  commits with four actions, so rho is smaller and may be annealed by the caller; a state with one allowed action
  has no entropy to steer and leaves the temperature's loss.
- Optionally, the critics learn from the stored episode's own return (``return_weight``) beside the bootstrapped
  target: over hundreds of steps with one reward at the end, bootstrapping alone needs far more updates.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ramp.rl.replay import Batch, Replay, Ring
from ramp.rl.sac_params import LearnerParams, SacParams

MASKED = -1e9  # a logit that softmax turns into an exact zero, without the NaN of 0 * -inf


class Demonstrations(NamedTuple):
    """Actions worth imitating: m states in numpy."""

    obs: np.ndarray  # float32 [m, o]
    masks: np.ndarray  # bool [m, w]
    actions: np.ndarray  # int64 [m]


class TwinCritic(nn.Module):
    """Two Q-networks of two hidden layers, side by side in batched products: [b, o] -> [2, b, w]."""

    def __init__(self, obs_size: int, n_actions: int, hidden: int) -> None:
        super().__init__()
        sizes = [obs_size, hidden, hidden, n_actions]
        pairs = [(nn.Linear(i, o), nn.Linear(i, o)) for i, o in pairwise(sizes)]
        self.weights = nn.ParameterList([torch.stack([a.weight.T, b.weight.T]).detach() for a, b in pairs])  # [2, i, o]
        self.biases = nn.ParameterList([torch.stack([a.bias, b.bias]).detach()[:, None] for a, b in pairs])  # [2, 1, o]

    def forward(self, obs: Tensor) -> Tensor:
        x = obs.expand(2, *obs.shape)
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.relu(x) if depth else x, weight)
        return x


def mlp(obs_size: int, n_actions: int, hidden: int) -> nn.Sequential:
    """The actor: observation [b, o] -> logits [b, w]."""
    return nn.Sequential(
        nn.Linear(obs_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, n_actions)
    )


class ActorCritic:
    """What discrete and continuous SAC share: networks, temperature, optimizers, replay, and their state.

    Args:
        actor: (inputs, outputs) of the actor.
        critic: (inputs, outputs) of each of the twin critics.
        params: see ``LearnerParams``.
        replay: where episodes are kept.
        seed: of the networks' initial weights and of every later draw.
    """

    def __init__(
        self, actor: tuple[int, int], critic: tuple[int, int], params: LearnerParams, replay: Ring, seed: int
    ) -> None:
        self.params, self.replay = params, replay
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = mlp(*actor, params.hidden)
            self.critic = TwinCritic(*critic, params.hidden)
            self.target = TwinCritic(*critic, params.hidden)
        self.target.load_state_dict(self.critic.state_dict())
        self.target.requires_grad_(False)
        self.log_alpha = torch.tensor(float(np.log(params.alpha_start)), requires_grad=True)
        rate = params.learning_rate
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=rate)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=rate)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=rate)
        self.rng = np.random.default_rng([seed, 0x5AC])
        self.updates = 0

    @property
    def alpha(self) -> float:
        """The temperature."""
        return float(self.log_alpha.detach().exp())

    def _step_critics(self, predicted: Tensor, goal: Tensor) -> float:
        """One step of both critics, [2, b], towards their common target [b]; the sum of both losses."""
        loss = F.mse_loss(predicted, goal.expand_as(predicted)) * 2
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        return float(loss.detach())

    def _update_target(self) -> None:
        """Let the target critics follow by ``tau``, and count the update."""
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, self.params.tau)
        self.updates += 1

    def actor_layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The actor as (weight [out, in], bias [out]) per layer, copied: for roll-outs and for the policy's file."""
        layers = [module for module in self.actor if isinstance(module, nn.Linear)]
        return [(x.weight.detach().numpy().copy(), x.bias.detach().numpy().copy()) for x in layers]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on; loadable with ``torch.load(..., weights_only=True)``."""
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "target": self.target.state_dict(),
            "log_alpha": self.log_alpha.detach().clone(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "replay": self.replay.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of ``state_dict``: what follows is bit for bit what would have followed."""
        for name in ("actor", "critic", "target", "actor_optimizer", "critic_optimizer", "alpha_optimizer", "replay"):
            getattr(self, name).load_state_dict(state[name])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.updates = int(state["updates"])


class DiscreteSAC(ActorCritic):
    """Actor, twin critics, target critics, temperature and replay.

    Args:
        obs_size: numbers per observation.
        n_actions: number of actions, w.
        params: see ``SacParams``.
        seed: of the networks' initial weights and of every later draw.
    """

    params: SacParams
    replay: Replay

    def __init__(self, obs_size: int, n_actions: int, params: SacParams | None = None, seed: int = 0) -> None:
        params = params or SacParams()
        replay = Replay(obs_size, n_actions, params.replay_capacity)
        super().__init__((obs_size, n_actions), (obs_size, n_actions), params, replay, seed)

    def log_policy(self, obs: Tensor, mask: Tensor) -> Tensor:
        """Log-probabilities [b, w]; about -1e9 where ``mask`` [b, w] is false."""
        return F.log_softmax(self.actor(obs).masked_fill(~mask, MASKED), dim=-1)

    def act(self, obs: np.ndarray, mask: np.ndarray, *, greedy: bool = False) -> int:
        """One action for one observation [o] and its mask [w]: the likeliest, or drawn from the policy."""
        with torch.inference_mode():
            chances = (
                self.log_policy(torch.from_numpy(obs)[None], torch.from_numpy(mask)[None])[0].exp().double().numpy()
            )
        return int(chances.argmax()) if greedy else int(self.rng.choice(len(chances), p=chances / chances.sum()))

    def update(
        self,
        rho: float | None = None,
        *,
        reward_scale: float = 1.0,
        return_offset: float = 0.0,
        clone: Demonstrations | None = None,
        clone_weight: float = 0.0,
    ) -> dict[str, float]:
        """One gradient step of critics, actor and temperature on a batch from the replay.

        Args:
            rho: target entropy as a share of log(allowed actions); None takes ``rho_end``.
            reward_scale: rewards are multiplied by this, after ``return_offset`` is taken off each episode's end.
            return_offset: a typical return; a constant at the end changes no policy and spares the critics its size.
            clone: actions that the actor is also pulled towards, a batch of them per step, or None.
            clone_weight: weight of that cross-entropy beside SAC's own actor loss.

        Returns:
            ``critic_loss, actor_loss, alpha, entropy``.
        """
        batch = self.replay.sample(self.params.batch_size, self.rng)
        batch = batch._replace(
            reward=reward_scale * (batch.reward - return_offset * batch.done),
            to_go=reward_scale * (batch.to_go - return_offset),
        )
        critic_loss = self._update_critics(batch)
        actor_loss, entropy = self._update_actor(batch, clone, clone_weight)
        self._update_temperature(batch.mask, entropy, self.params.rho_end if rho is None else rho)
        self._update_target()
        return {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "alpha": self.alpha,
            "entropy": float(entropy.mean()),
        }

    def _update_critics(self, batch: Batch) -> float:
        """Equations 2 to 4 and 12 of arXiv:1910.07207: the value of s' is an exact expectation over its actions."""
        with torch.no_grad():
            value = torch.zeros_like(batch.reward)
            if self.params.return_weight < 1:
                log_next = self.log_policy(batch.next_obs, batch.next_mask)
                soft = self.target(batch.next_obs).amin(dim=0)  # [b, w]
                if self.params.entropy_in_target:
                    soft = soft - self.log_alpha.exp() * log_next
                value = torch.where(batch.next_mask, log_next.exp() * soft, 0.0).sum(dim=-1)
            backed_up = batch.reward + self.params.gamma * (1 - batch.done) * value
            goal = torch.lerp(backed_up, batch.to_go, self.params.return_weight)
        taken = batch.action[None, :, None].expand(2, -1, 1)
        predicted = self.critic(batch.obs).gather(-1, taken)[..., 0]  # [2, b]
        return self._step_critics(predicted, goal)

    def _update_actor(self, batch: Batch, clone: Demonstrations | None, clone_weight: float) -> tuple[float, Tensor]:
        """Equation 12's policy loss; returns it with the policy's entropy [b] before the step."""
        with torch.no_grad():
            value = self.critic(batch.obs).amin(dim=0)
        log_policy = self.log_policy(batch.obs, batch.mask)
        policy = log_policy.exp()
        allowed_log = torch.where(batch.mask, log_policy, 0.0)
        loss = (
            torch.where(batch.mask, policy * (self.log_alpha.detach().exp() * allowed_log - value), 0.0)
            .sum(dim=-1)
            .mean()
        )
        if clone is not None and clone_weight > 0:
            loss = loss + clone_weight * self._clone_loss(clone)
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        return float(loss.detach()), -(policy * allowed_log).sum(dim=-1).detach()

    def _update_temperature(self, mask: Tensor, entropy: Tensor, rho: float) -> None:
        """Equation 11, with one target per state; states with one allowed action are left out."""
        allowed = mask.sum(dim=-1)
        free = allowed > 1
        if not bool(free.any()):
            return
        gap = entropy[free] - rho * torch.log(allowed[free].float())
        loss = self.log_alpha * gap.mean()
        self.alpha_optimizer.zero_grad()
        loss.backward()
        self.alpha_optimizer.step()

    def _clone_loss(self, demonstrations: Demonstrations) -> Tensor:
        """Cross-entropy towards a random batch of demonstrated actions."""
        rows = self.rng.integers(0, len(demonstrations.actions), self.params.batch_size)
        obs, mask, action = (torch.from_numpy(values[rows]) for values in demonstrations)
        return F.nll_loss(self.log_policy(obs, mask), action)

    def clone(self, demonstrations: Demonstrations, steps: int) -> float:
        """Behaviour cloning: ``steps`` Adam steps of cross-entropy towards demonstrated actions; the last loss."""
        loss = torch.zeros(())
        for _ in range(steps):
            loss = self._clone_loss(demonstrations)
            self.actor_optimizer.zero_grad()
            loss.backward()
            self.actor_optimizer.step()
        return float(loss.detach())
