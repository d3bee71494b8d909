"""The replay buffer: a ring of transitions in numpy arrays, filled by whole episodes or pieces of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions as tensors; b = batch, o = observation size, w = number of discrete actions, 0 for continuous."""

    obs: Tensor  # float32 [b, o]
    mask: Tensor  # bool [b, w]
    action: Tensor  # as executed: int64 [b], or float32 [b, d] with d numbers per continuous action
    reward: Tensor  # float32 [b]
    next_obs: Tensor  # float32 [b, o]
    next_mask: Tensor  # bool [b, w]
    done: Tensor  # float32 [b]
    to_go: Tensor  # float32 [b], sum of the episode's rewards from this step on


class Replay:
    """A ring of transitions; the oldest rows are overwritten.

    Args:
        obs_size: numbers per observation, o.
        n_actions: number of discrete actions, w; 0 for continuous actions, which have no mask.
        capacity: largest number of rows.
        action_size: numbers per continuous action; None for discrete actions.
    """

    def __init__(self, obs_size: int, n_actions: int, capacity: int, action_size: int | None = None) -> None:
        self.n_actions, self.capacity = n_actions, capacity
        shapes: dict[str, tuple[tuple[int, ...], type]] = {  # of one row
            "obs": ((obs_size,), np.float32),
            "mask": ((n_actions,), bool),
            "action": ((), np.int64) if action_size is None else ((action_size,), np.float32),
            "reward": ((), np.float32),
            "next_obs": ((obs_size,), np.float32),
            "next_mask": ((n_actions,), bool),
            "done": ((), np.float32),
            "to_go": ((), np.float32),
        }
        self.size = self.next_slot = 0
        # zeros take no memory before they are written
        self.data: dict[str, np.ndarray] = {
            name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in shapes.items()
        }

    def add_episode(
        self,
        obs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        masks: np.ndarray | None = None,
        last: tuple[np.ndarray, np.ndarray | None] | None = None,
    ) -> None:
        """Store n consecutive steps.

        Args:
            obs: float32 [n, o], observations before each step.
            actions: int64 [n] or float32 [n, d].
            rewards: float32 [n].
            masks: bool [n, w] of discrete actions.
            last: observation [o] and mask [w] after the last step where the episode did not end there (a time limit,
                or only a piece is stored), so that its value is bootstrapped (Pardo et al. 2018, arXiv:1712.00378).
                ``to_go`` is then the sum over the piece, of use with ``return_weight`` 0 alone.
        """
        n = len(rewards)
        masks = np.zeros((n, self.n_actions), dtype=bool) if masks is None else masks
        after_obs, after_mask = (obs[-1], masks[-1]) if last is None else last  # the first is unused: done is 1
        done = np.zeros(n, dtype=np.float32)
        done[-1] = float(last is None)
        rows = {
            "obs": obs,
            "mask": masks,
            "action": actions,
            "reward": rewards,
            "next_obs": np.concatenate([obs[1:], after_obs[None]]),
            "next_mask": np.concatenate([masks[1:], (masks[-1] if after_mask is None else after_mask)[None]]),
            "done": done,
            "to_go": np.cumsum(rewards[::-1], dtype=np.float64)[::-1],
        }
        slots = (self.next_slot + np.arange(n)) % self.capacity
        for name, values in rows.items():
            self.data[name][slots] = values
        self.next_slot = int((self.next_slot + n) % self.capacity)
        self.size = min(self.size + n, self.capacity)

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """Return ``count`` transitions, drawn uniformly with replacement."""
        rows = rng.integers(0, self.size, count)
        return Batch(**{name: torch.from_numpy(values[rows]) for name, values in self.data.items()})
