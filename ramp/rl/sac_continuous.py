"""Continuous Soft Actor-Critic with a squashed Gaussian policy (Haarnoja et al. 2018, arXiv:1812.05905).

Actions are numbers in (-1, 1); whoever calls brings them to the range of its environment. Twin critics and the
temperature are those of ramp/rl/sac.py, on observation and action side by side.

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

from ramp.rl.replay import ContinuousBatch, ContinuousReplay
from ramp.rl.sac import ActorCritic
from ramp.rl.sac_params import ContinuousSacParams

LOG_DEVIATION = (-20.0, 2.0)
"""Bounds of the log-deviation, those of the authors' own implementation (rail-berkeley/softlearning)."""


def squashed(mean: Tensor, log_deviation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(u) for u = mean + deviation * noise, and its log-density: [b, d] each -> ([b, d], [b]).

    Appendix C of arXiv:1812.05905: log p(tanh u) = log N(u) - log(1 - tanh(u)^2), summed over d; the last term
    is written 2 (log 2 - u - softplus(-2 u)), which does not underflow for large |u|.
    """
    u = mean + log_deviation.exp() * noise
    log_normal = -0.5 * noise.square() - log_deviation - 0.5 * math.log(2 * math.pi)
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return torch.tanh(u), (log_normal - log_slope).sum(dim=-1)


class ContinuousSAC(ActorCritic):
    """Actor, twin critics, target critics, temperature and replay.

    Args:
        obs_size: numbers per observation, o.
        action_size: numbers per action, d.
        params: see ``ContinuousSacParams``.
        seed: of the networks' initial weights and of every later draw.
    """

    params: ContinuousSacParams
    replay: ContinuousReplay

    def __init__(
        self, obs_size: int, action_size: int, params: ContinuousSacParams | None = None, seed: int = 0
    ) -> None:
        params = params or ContinuousSacParams()
        replay = ContinuousReplay(obs_size, action_size, params.replay_capacity)
        super().__init__((obs_size, 2 * action_size), (obs_size + action_size, 1), params, replay, seed)
        self.action_size = action_size
        self.target_entropy = params.target_entropy * action_size

    def policy(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The action [b, d] in obs [b, o] that standard normal ``noise`` [b, d] stands for, and its log-density [b]."""
        mean, log_deviation = self.actor(obs).chunk(2, dim=-1)
        return squashed(mean, log_deviation.clamp(*LOG_DEVIATION), noise)

    def act(self, obs: np.ndarray, *, greedy: bool = False) -> np.ndarray:
        """One action, float32 [d] in (-1, 1), for one observation [o]: the squashed mean, or drawn from the policy."""
        noise = torch.zeros(1, self.action_size) if greedy else self._noise(1)
        with torch.inference_mode():
            return self.policy(torch.from_numpy(obs)[None], noise)[0][0].numpy()

    def _noise(self, rows: int) -> Tensor:
        return torch.from_numpy(self.rng.standard_normal((rows, self.action_size), dtype=np.float32))

    def update(self, *, reward_scale: float = 1.0, return_offset: float = 0.0) -> dict[str, float]:
        """One gradient step of critics, actor and temperature on a batch from the replay.

        Args:
            reward_scale: rewards are multiplied by this, after ``return_offset`` is taken off each episode's end.
            return_offset: a typical return; a constant at the end changes no policy and spares the critics its size.

        Returns:
            ``critic_loss, actor_loss, alpha, entropy``.
        """
        batch = self.replay.sample(self.params.batch_size, self.rng)
        batch = batch._replace(
            reward=reward_scale * (batch.reward - return_offset * batch.done),
            to_go=reward_scale * (batch.to_go - return_offset),
        )
        critic_loss = self._update_critics(batch)
        actor_loss, entropy = self._update_actor(batch)
        self._update_temperature(entropy)
        self._update_target()
        return {"critic_loss": critic_loss, "actor_loss": actor_loss, "alpha": self.alpha, "entropy": entropy}

    def _update_critics(self, batch: ContinuousBatch) -> float:
        """Equations 5 and 6 of arXiv:1812.05905, with the smaller of two target critics; one action is drawn in s'."""
        with torch.no_grad():
            value = torch.zeros_like(batch.reward)
            if self.params.return_weight < 1:
                action, log_density = self.policy(batch.next_obs, self._noise(len(batch.reward)))
                value = self.target(torch.cat([batch.next_obs, action], dim=-1)).amin(dim=0)[:, 0]  # [b]
                if self.params.entropy_in_target:
                    value = value - self.log_alpha.exp() * log_density
            backed_up = batch.reward + self.params.gamma * (1 - batch.done) * value
            goal = torch.lerp(backed_up, batch.to_go, self.params.return_weight)
        predicted = self.critic(torch.cat([batch.obs, batch.action], dim=-1))[..., 0]  # [2, b]
        return self._step_critics(predicted, goal)

    def _update_actor(self, batch: ContinuousBatch) -> tuple[float, float]:
        """Equation 9, through the reparametrised action; returns the loss and the entropy estimate before the step."""
        action, log_density = self.policy(batch.obs, self._noise(len(batch.reward)))
        self.critic.requires_grad_(False)  # the gradient passes through to the action, not into the critics
        value = self.critic(torch.cat([batch.obs, action], dim=-1)).amin(dim=0)[:, 0]
        loss = (self.log_alpha.detach().exp() * log_density - value).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        self.critic.requires_grad_(True)
        return float(loss.detach()), -float(log_density.detach().mean())

    def _update_temperature(self, entropy: float) -> None:
        """Equation 18, in log alpha: the temperature falls while the entropy lies above its target."""
        loss = self.log_alpha * (entropy - self.target_entropy)
        self.alpha_optimizer.zero_grad()
        loss.backward()
        self.alpha_optimizer.step()


def width_layers(learner: ContinuousSAC, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The greedy policy over ``count`` equal shares of (-1, 1) as layers that end in one logit per share.

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
