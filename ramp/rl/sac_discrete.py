"""Discrete Soft Actor-Critic (Christodoulou 2019, arXiv:1910.07207), with masked actions.

What differs from the paper, each for a reason:
- Actions that a state does not allow have probability zero, in s and in s'.
- The target entropy belongs to the state: rho * log(number of allowed actions). The paper's 0.98 * log|A| never
  commits with four actions, so rho is smaller and the caller may anneal it; a state with one allowed action has no
  entropy to steer and is left out of the temperature's loss.
- Optionally, the critics learn from the stored episode's own return (``return_weight``) beside the bootstrapped
  target: over hundreds of steps with one reward at the end, bootstrapping alone needs far more updates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ramp.rl.actor_critic import ActorCritic
from ramp.rl.replay import Batch, Replay
from ramp.rl.sac_params import SacParams

MASKED = -1e9
"""A logit that softmax turns into an exact zero, without the NaN of 0 * -inf."""


class Demonstrations(NamedTuple):
    """Actions to imitate, in m states."""

    obs: np.ndarray  # float32 [m, o]
    masks: np.ndarray  # bool [m, w]
    actions: np.ndarray  # int64 [m]


class DiscreteSAC(ActorCritic):
    """Discrete SAC with actor, twin critics, target critics, temperature and replay.

    Args:
        obs_size: numbers per observation.
        n_actions: number of actions, w.
        params: see ``SacParams``.
        seed: of the networks' initial weights and of every later draw.
    """

    params: SacParams

    def __init__(self, obs_size: int, n_actions: int, params: SacParams | None = None, seed: int = 0) -> None:
        params = params or SacParams()
        replay = Replay(obs_size, n_actions, params.replay_capacity)
        super().__init__((obs_size, n_actions), (obs_size, n_actions), params, replay, seed)

    def log_policy(self, obs: Tensor, mask: Tensor) -> Tensor:
        """Return log-probabilities [b, w]; about -1e9 where ``mask`` [b, w] is false."""
        return F.log_softmax(self.actor(obs).masked_fill(~mask, MASKED), dim=-1)

    def act(self, obs: np.ndarray, mask: np.ndarray, *, greedy: bool = False) -> int:
        """Return one action for an observation [o] and its mask [w]: the likeliest, or drawn from the policy."""
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
        """Take one gradient step of critics, actor and temperature on a batch from the replay.

        Args:
            rho: target entropy as a share of log(allowed actions); None takes ``rho_end``.
            reward_scale: rewards are multiplied by this, after ``return_offset`` is subtracted at each episode's end.
            return_offset: a typical return; a constant at the end changes no policy, and the critics need not learn it.
            clone: actions that the actor is also pulled towards, a batch of them per step, or None.
            clone_weight: weight of that cross-entropy beside SAC's own actor loss.

        Returns:
            ``critic_loss, actor_loss, alpha, entropy``.
        """
        batch = self._sample(reward_scale, return_offset)
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

    def _predicted(self, batch: Batch) -> Tensor:
        taken = batch.action[None, :, None].expand(2, -1, 1)
        return self.critic(batch.obs).gather(-1, taken)[..., 0]

    def _next_value(self, batch: Batch) -> Tensor:
        """Return equations 2 to 4 and 12 of arXiv:1910.07207: an exact expectation over the actions of s'."""
        log_next = self.log_policy(batch.next_obs, batch.next_mask)
        soft = self.target(batch.next_obs).amin(dim=0)  # [b, w]
        if self.params.entropy_in_target:
            soft = soft - self.log_alpha.exp() * log_next
        return torch.where(batch.next_mask, log_next.exp() * soft, 0.0).sum(dim=-1)

    def _update_actor(self, batch: Batch, clone: Demonstrations | None, clone_weight: float) -> tuple[float, Tensor]:
        """Step the actor by equation 12; return the loss and the policy's entropy [b] before the step."""
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
        return self._step(self.actor_optimizer, loss), -(policy * allowed_log).sum(dim=-1).detach()

    def _update_temperature(self, mask: Tensor, entropy: Tensor, rho: float) -> None:
        """Step the temperature by equation 11, with a target per state; states with one allowed action are left out."""
        allowed = mask.sum(dim=-1)
        free = allowed > 1
        if not bool(free.any()):
            return
        gap = entropy[free] - rho * torch.log(allowed[free].float())
        self._step(self.alpha_optimizer, self.log_alpha * gap.mean())

    def _clone_loss(self, demonstrations: Demonstrations) -> Tensor:
        """Return the cross-entropy towards a random batch of demonstrated actions."""
        rows = self.rng.integers(0, len(demonstrations.actions), self.params.batch_size)
        obs, mask, action = (torch.from_numpy(values[rows]) for values in demonstrations)
        return F.nll_loss(self.log_policy(obs, mask), action)

    def clone(self, demonstrations: Demonstrations, steps: int) -> float:
        """Clone behaviour: ``steps`` Adam steps of cross-entropy towards demonstrated actions; return the last loss."""
        loss = 0.0
        for _ in range(steps):
            loss = self._step(self.actor_optimizer, self._clone_loss(demonstrations))
        return loss
