"""Continuous Soft Actor-Critic with a squashed Gaussian policy (Haarnoja et al. 2018, arXiv:1812.05905).

Actions are numbers in (-1, 1); the caller brings them to the range of its environment. The twin critics of
ramp/rl/actor_critic.py see observation and action concatenated.

| call | shapes | meaning |
| --- | --- | --- |
| ``actor(obs)`` | [b, o] -> [b, 2 d] | means and log-deviations of the Gaussian before squashing |
| ``critic(cat(obs, action))`` | [b, o + d] -> [2, b, 1] | two estimates of the soft value |
| ``policy(obs, noise)`` | [b, o], [b, d] -> [b, d], [b] | an action and its log-density on (-1, 1) |
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ramp.rl.actor_critic import ActorCritic, Layers
from ramp.rl.replay import Batch, Replay
from ramp.rl.sac_params import ContinuousSacParams

LOG_DEVIATION = (-20.0, 2.0)
"""Bounds of the log-deviation, those of the authors' own implementation (rail-berkeley/softlearning)."""


def squashed(mean: Tensor, log_deviation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return tanh(u) for u = mean + deviation * noise, and its log-density: [b, d] each -> ([b, d], [b]).

    Appendix C of arXiv:1812.05905: log p(tanh u) = log N(u) - log(1 - tanh(u)^2), summed over d; the last term
    is written 2 (log 2 - u - softplus(-2 u)), which does not underflow for large |u|.
    """
    u = mean + log_deviation.exp() * noise
    log_normal = -0.5 * noise.square() - log_deviation - 0.5 * math.log(2 * math.pi)
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return torch.tanh(u), (log_normal - log_slope).sum(dim=-1)


class ContinuousSAC(ActorCritic):
    """Continuous SAC with actor, twin critics, target critics, temperature and replay.

    Args:
        obs_size: numbers per observation, o.
        action_size: numbers per action, d.
        params: see ``ContinuousSacParams``.
        seed: of the networks' initial weights and of every later draw.
    """

    params: ContinuousSacParams

    def __init__(
        self, obs_size: int, action_size: int, params: ContinuousSacParams | None = None, seed: int = 0
    ) -> None:
        params = params or ContinuousSacParams()
        replay = Replay(obs_size, 0, params.replay_capacity, action_size)
        super().__init__((obs_size, 2 * action_size), (obs_size + action_size, 1), params, replay, seed)
        self.action_size = action_size
        self.target_entropy = params.target_entropy * action_size

    def policy(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action [b, d] in obs [b, o] for standard normal ``noise`` [b, d], and its log-density [b]."""
        mean, log_deviation = self.actor(obs).chunk(2, dim=-1)
        return squashed(mean, log_deviation.clamp(*LOG_DEVIATION), noise)

    def act(self, obs: np.ndarray, *, greedy: bool = False) -> np.ndarray:
        """Return an action, float32 [d] in (-1, 1), for an observation [o]: the squashed mean, or drawn."""
        noise = torch.zeros(1, self.action_size) if greedy else self._noise(1)
        with torch.inference_mode():
            return self.policy(torch.from_numpy(obs)[None], noise)[0][0].numpy()

    def _noise(self, rows: int) -> Tensor:
        return torch.from_numpy(self.rng.standard_normal((rows, self.action_size), dtype=np.float32))

    def update(self, *, reward_scale: float = 1.0, return_offset: float = 0.0) -> dict[str, float]:
        """Take one gradient step; arguments and result as of ``ramp.rl.sac_discrete.DiscreteSAC.update``."""
        batch = self._sample(reward_scale, return_offset)
        critic_loss = self._update_critics(batch)
        actor_loss, entropy = self._update_actor(batch)
        self._update_temperature(entropy)
        self._update_target()
        return {"critic_loss": critic_loss, "actor_loss": actor_loss, "alpha": self.alpha, "entropy": entropy}

    def _predicted(self, batch: Batch) -> Tensor:
        return self.critic(torch.cat([batch.obs, batch.action], dim=-1))[..., 0]

    def _next_value(self, batch: Batch) -> Tensor:
        """Return equations 5 and 6 of arXiv:1812.05905, by the smaller of two target critics, for one action in s'."""
        action, log_density = self.policy(batch.next_obs, self._noise(len(batch.reward)))
        value = self.target(torch.cat([batch.next_obs, action], dim=-1)).amin(dim=0)[:, 0]  # [b]
        return value - self.log_alpha.exp() * log_density if self.params.entropy_in_target else value

    def _update_actor(self, batch: Batch) -> tuple[float, float]:
        """Step the actor by equation 9; return the loss and the estimate of the entropy before the step."""
        action, log_density = self.policy(batch.obs, self._noise(len(batch.reward)))
        self.critic.requires_grad_(False)  # the gradient passes through to the action, not into the critics
        value = self.critic(torch.cat([batch.obs, action], dim=-1)).amin(dim=0)[:, 0]
        loss = (self.log_alpha.detach().exp() * log_density - value).mean()
        actor_loss = self._step(self.actor_optimizer, loss)
        self.critic.requires_grad_(True)
        return actor_loss, -float(log_density.detach().mean())

    def _update_temperature(self, entropy: float) -> None:
        """Step log alpha by equation 18: the temperature falls while the entropy lies above its target."""
        self._step(self.alpha_optimizer, self.log_alpha * (entropy - self.target_entropy))


def width_layers(learner: ContinuousSAC, count: int) -> Layers:
    """Return the greedy policy over ``count`` equal shares of (-1, 1) as layers that end in one logit per share.

    With m the mean before squashing and u_k = atanh(2 k / count - 1) the k-th border, logit k = k m - (u_1 + ... +
    u_k): neighbours meet exactly at their border, so the largest logit is the share that tanh(m) lies in, and a mask
    that forbids it leaves the nearest allowed one on top. Layers are (weight [out, in], bias [out]) as in
    ``ramp.rl.policy``.
    """
    *body, (weight, bias) = learner.actor_layers()  # the last one: means, then log-deviations
    steps = np.arange(count, dtype=np.float64)
    borders = np.concatenate([[0.0], np.cumsum(np.arctanh(2 * steps[1:] / count - 1))])
    head = (np.outer(steps, weight[0]).astype(np.float32), (steps * bias[0] - borders).astype(np.float32))
    return [*body, head]
