"""Replay buffers of the learners: rings of transitions in numpy arrays, filled by whole episodes or pieces of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions of discrete actions as tensors; b = batch, o = observation size, w = number of actions."""

    obs: Tensor  # float32 [b, o]
    mask: Tensor  # bool [b, w]
    action: Tensor  # int64 [b], as executed
    reward: Tensor  # float32 [b]
    next_obs: Tensor  # float32 [b, o]
    next_mask: Tensor  # bool [b, w]
    done: Tensor  # float32 [b]
    to_go: Tensor  # float32 [b], sum of the episode's rewards from this step on


class ContinuousBatch(NamedTuple):
    """Transitions of continuous actions as tensors; b = batch, o = observation size, d = numbers per action."""

    obs: Tensor  # float32 [b, o]
    action: Tensor  # float32 [b, d], as executed
    reward: Tensor  # float32 [b]
    next_obs: Tensor  # float32 [b, o]
    done: Tensor  # float32 [b]
    to_go: Tensor  # float32 [b], sum of the episode's rewards from this step on


Shapes = dict[str, tuple[tuple[int, ...], type]]
"""Name of a stored array -> (shape of one row, dtype)."""


class Ring:
    """Named arrays of at most ``capacity`` rows that grow as they fill; the oldest rows are overwritten."""

    def __init__(self, shapes: Shapes, capacity: int) -> None:
        self.shapes, self.capacity = shapes, capacity
        self.size = self.next_slot = 0
        self.data: dict[str, np.ndarray] = {}
        self._allocate(1024)

    def _allocate(self, rows: int) -> None:
        rows = min(rows, self.capacity)
        old = self.data
        self.data = {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in self.shapes.items()}
        for name, values in old.items():
            self.data[name][: self.size] = values[: self.size]

    def push(self, fresh: dict[str, np.ndarray]) -> None:
        """Append rows, the same number under every name."""
        n = len(fresh["action"])
        while len(self.data["action"]) < min(self.size + n, self.capacity):
            self._allocate(2 * len(self.data["action"]))
        slots = (self.next_slot + np.arange(n)) % self.capacity
        for name, values in fresh.items():
            self.data[name][slots] = values
        self.next_slot = int((self.next_slot + n) % self.capacity)
        self.size = min(self.size + n, self.capacity)

    def draw(self, count: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """``count`` rows, uniformly with replacement."""
        rows = rng.integers(0, self.size, count)
        return {name: torch.from_numpy(values[rows]) for name, values in self.data.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything stored, as tensors."""
        kept = {name: torch.from_numpy(values[: self.size].copy()) for name, values in self.data.items()}
        return {"data": kept, "size": self.size, "next_slot": self.next_slot}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.size = 0
        self._allocate(max(1024, int(state["size"])))
        self.size, self.next_slot = int(state["size"]), int(state["next_slot"])
        for name, values in state["data"].items():
            self.data[name][: self.size] = values.numpy()


def chained(obs: np.ndarray, rewards: np.ndarray, last: np.ndarray | None) -> dict[str, np.ndarray]:
    """Rows of n consecutive steps: ``obs, reward, next_obs, done, to_go``.

    Args:
        obs: [n, o] observations before each step.
        rewards: [n].
        last: observation [o] after the last step where the episode goes on or was cut off by a time limit, so that its
            value is bootstrapped (Pardo et al. 2018, arXiv:1712.00378); None where it ended.
    """
    done = np.zeros(len(rewards), dtype=np.float32)
    done[-1] = float(last is None)
    return {
        "obs": obs,
        "reward": rewards,
        "next_obs": np.concatenate([obs[1:], obs[-1:] if last is None else last[None]]),  # unused where done is 1
        "done": done,
        "to_go": np.cumsum(rewards[::-1], dtype=np.float64)[::-1],
    }


class Replay(Ring):
    """Steps with discrete, masked actions."""

    def __init__(self, obs_size: int, n_actions: int, capacity: int) -> None:
        shapes: Shapes = {
            "obs": ((obs_size,), np.float32),
            "mask": ((n_actions,), bool),
            "action": ((), np.int64),
            "reward": ((), np.float32),
            "next_obs": ((obs_size,), np.float32),
            "next_mask": ((n_actions,), bool),
            "done": ((), np.float32),
            "to_go": ((), np.float32),
        }
        super().__init__(shapes, capacity)

    def add_episode(
        self,
        obs: np.ndarray,
        masks: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        last: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Store an episode: obs [n, o], masks [n, w], actions [n], rewards [n].

        ``last`` is the observation [o] and mask [w] after its last step where it did not end there (a time limit, or
        only a piece is stored); ``to_go`` is then the sum over the piece, of use with ``return_weight`` 0 alone.
        """
        after = masks[-1:] if last is None else last[1][None]
        rows = chained(obs, rewards, None if last is None else last[0])
        rows |= {"mask": masks, "action": actions, "next_mask": np.concatenate([masks[1:], after])}
        self.push(rows)

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """``count`` transitions, uniformly with replacement."""
        return Batch(**self.draw(count, rng))


class ContinuousReplay(Ring):
    """Steps with continuous actions."""

    def __init__(self, obs_size: int, action_size: int, capacity: int) -> None:
        shapes: Shapes = {
            "obs": ((obs_size,), np.float32),
            "action": ((action_size,), np.float32),
            "reward": ((), np.float32),
            "next_obs": ((obs_size,), np.float32),
            "done": ((), np.float32),
            "to_go": ((), np.float32),
        }
        super().__init__(shapes, capacity)

    def add_episode(
        self, obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray, last: np.ndarray | None = None
    ) -> None:
        """Store an episode: obs [n, o], actions [n, d], rewards [n]; ``last`` [o] as in ``Replay.add_episode``."""
        self.push(chained(obs, rewards, last) | {"action": actions})

    def sample(self, count: int, rng: np.random.Generator) -> ContinuousBatch:
        """``count`` transitions, uniformly with replacement."""
        return ContinuousBatch(**self.draw(count, rng))
