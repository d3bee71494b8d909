"""The networks of SAC and what its discrete and continuous forms share: replay, optimizers, the critics' step.

Twin critics with target critics and a learned temperature follow Haarnoja et al. 2018 (arXiv:1812.05905, section 5).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ramp.rl.replay import Batch, Replay
from ramp.rl.sac_params import LearnerParams

Layers = list[tuple[np.ndarray, np.ndarray]]
"""(weight float32 [out, in], bias float32 [out]) of each linear layer, as ``ramp.rl.policy`` has them."""


def linear_layers(modules: Iterable[nn.Module]) -> Layers:
    """Return copies of the weights and biases of the linear layers among ``modules``, in order."""
    layers = [module for module in modules if isinstance(module, nn.Linear)]
    return [(x.weight.detach().numpy().copy(), x.bias.detach().numpy().copy()) for x in layers]


class TwinCritic(nn.Module):
    """Two Q-networks of two hidden layers, side by side in batched products: [b, o] -> [2, b, w]."""

    def __init__(self, obs_size: int, n_actions: int, hidden: int) -> None:
        super().__init__()
        sizes = [obs_size, hidden, hidden, n_actions]
        pairs = [(nn.Linear(i, o), nn.Linear(i, o)) for i, o in pairwise(sizes)]
        self.weights = nn.ParameterList([torch.stack([a.weight.T, b.weight.T]).detach() for a, b in pairs])  # [2, i, o]
        self.biases = nn.ParameterList([torch.stack([a.bias, b.bias]).detach()[:, None] for a, b in pairs])  # [2, 1, o]

    def forward(self, obs: Tensor) -> Tensor:
        """Return both estimates [2, b, w] for observations [b, o]."""
        x = obs.expand(2, *obs.shape)
        for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.relu(x) if depth else x, weight)
        return x


def actor_network(obs_size: int, n_actions: int, hidden: int) -> nn.Sequential:
    """Return an actor: observation [b, o] -> outputs [b, w]."""
    return nn.Sequential(
        nn.Linear(obs_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, n_actions)
    )


class ActorCritic:
    """Networks, temperature, optimizers and replay.

    Subclasses say how the critics see an action (``_predicted``) and what the next state is worth (``_next_value``).

    Args:
        actor: (inputs, outputs) of the actor.
        critic: (inputs, outputs) of each of the twin critics.
        params: see ``LearnerParams``.
        replay: holds the episodes.
        seed: of the networks' initial weights and of every later draw.
    """

    def __init__(
        self, actor: tuple[int, int], critic: tuple[int, int], params: LearnerParams, replay: Replay, seed: int
    ) -> None:
        self.params, self.replay = params, replay
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = actor_network(*actor, params.hidden)
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

    def _predicted(self, batch: Batch) -> Tensor:
        """Return both critics' values [2, b] of the actions in the batch."""
        raise NotImplementedError

    def _next_value(self, batch: Batch) -> Tensor:
        """Return the target critics' value [b] of the next states."""
        raise NotImplementedError

    def _sample(self, reward_scale: float, return_offset: float) -> Batch:
        """Return a batch whose rewards are scaled, after the offset was taken off each episode's end."""
        batch = self.replay.sample(self.params.batch_size, self.rng)
        return batch._replace(
            reward=reward_scale * (batch.reward - return_offset * batch.done),
            to_go=reward_scale * (batch.to_go - return_offset),
        )

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        """Take one gradient step and return the loss before it."""
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def _update_critics(self, batch: Batch) -> float:
        """Step both critics towards their common target and return the sum of their losses.

        The target is reward + gamma * value of the next state; ``return_weight`` of it is the episode's own return.
        """
        with torch.no_grad():
            value = self._next_value(batch) if self.params.return_weight < 1 else torch.zeros_like(batch.reward)
            backed_up = batch.reward + self.params.gamma * (1 - batch.done) * value
            goal = torch.lerp(backed_up, batch.to_go, self.params.return_weight)
        predicted = self._predicted(batch)
        return self._step(self.critic_optimizer, F.mse_loss(predicted, goal.expand_as(predicted)) * 2)

    def _update_target(self) -> None:
        """Move the target critics by ``tau`` towards the critics, and count the update."""
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(fast, self.params.tau)
        self.updates += 1

    def actor_layers(self) -> Layers:
        """Return the actor's layers, for roll-outs and for the policy's file."""
        return linear_layers(self.actor)
