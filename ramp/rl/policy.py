"""A trained policy and its file: small, readable without torch, and all that a transfer needs.

``policy.safetensors`` holds ``layers.{k}.weight`` [out, in] and ``layers.{k}.bias`` [out], float32; ReLU between
layers, masked softmax at the end. ``policy.json`` holds ``format`` (1), ``kind`` ("network"; a table of role and depth
has another, ``ramp.rl.role_depth``), ``sizes`` (units per layer), ``widths``
(bits per action), ``features`` (name, center, scale, dynamic of the eleven inputs), ``model`` (what it was trained
on), ``method``, ``budgets`` (bits per weight that it was trained at), ``seed`` and ``episodes``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field, PositiveInt

from ramp.allocators.greedy import repair
from ramp.core.atomic_files import read_json, require_file, write_json
from ramp.core.errors import RampError
from ramp.core.tensors import load_tensors, save_arrays
from ramp.problem.features import FEATURES
from ramp.quantizers.widths import Width
from ramp.rl.environment import AllocationEnv, Steps

FORMAT = 1
KIND = "network"
LEAST_LOG_CHANCE = -30.0
"""Log-probability that stands for zero, so that preferences stay finite numbers to trade."""


class PolicyError(RampError):
    """A policy file is broken, or does not fit the model or menu that it is used for."""


@dataclass(frozen=True, kw_only=True)
class PolicyRecord:
    """Fields of policy.json for a policy of any kind."""

    format: int
    kind: str = KIND


@dataclass(frozen=True, kw_only=True)
class TrainedRecord(PolicyRecord):
    """Fields of policy.json on a policy's training."""

    widths: list[Width]
    model: str
    method: str
    budgets: list[float]
    seed: int
    episodes: int

    def about(self) -> dict[str, Any]:
        """Return the fields that describe the training."""
        return {name: getattr(self, name) for name in ("model", "method", "budgets", "seed", "episodes")}


@dataclass(frozen=True)
class FeatureRecord:
    """One input of a network, as it was trained."""

    name: str
    center: float
    scale: float
    dynamic: bool


@dataclass(frozen=True, kw_only=True)
class NetworkRecord(TrainedRecord):
    """Content of a network's policy.json."""

    sizes: Annotated[list[PositiveInt], Field(min_length=2, max_length=100)]
    features: list[FeatureRecord]


Record = TypeVar("Record", bound=PolicyRecord)


@dataclass
class Policy:
    """A multilayer perceptron from an observation to width preferences, in numpy."""

    layers: list[tuple[np.ndarray, np.ndarray]]  # (weight float32 [out, in], bias float32 [out])
    widths: tuple[Width, ...]
    about: dict[str, Any] = field(default_factory=dict)  # model, method, budgets, seed, episodes

    def logits(self, observations: np.ndarray) -> np.ndarray:
        """Return logits [..., w] of observations [..., 11]."""
        x = observations
        for depth, (weight, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0.0) if depth else x) @ weight.T + bias
        return x

    def log_chances(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Return log-probabilities [..., w] (float64), ``LEAST_LOG_CHANCE`` where masked or less likely than that."""
        logits = np.where(masks, self.logits(observations).astype(np.float64), -np.inf)
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return np.maximum(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), LEAST_LOG_CHANCE)

    def greedy(self, env: AllocationEnv) -> Steps:
        """Return the pass that takes the likeliest feasible width at every step; costs no evaluation."""
        return env.walk(lambda index, observation, mask: int(self.log_chances(observation, mask).argmax()))

    def prices(self, steps: Steps) -> np.ndarray:
        """Return minus the log-probabilities [n, w] along a pass, masks aside."""
        return -self.log_chances(steps.observations, np.ones_like(steps.masks))

    def allocation(self, env: AllocationEnv) -> np.ndarray:
        """Return the greedy choice [n]; leftover bytes go where the policy's log-probability falls least per byte."""
        steps = self.greedy(env)
        return repair(steps.actions, self.prices(steps), env.problem.bytes, env.budget, always=True)

    def save(self, out_dir: str | Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json``."""
        tensors = {}
        for k, (weight, bias) in enumerate(self.layers):
            tensors[f"layers.{k}.weight"] = np.ascontiguousarray(weight, dtype=np.float32)
            tensors[f"layers.{k}.bias"] = np.ascontiguousarray(bias, dtype=np.float32)
        sizes = [self.layers[0][0].shape[1], *(len(bias) for _, bias in self.layers)]
        features = [feature._asdict() for feature in FEATURES]
        record = {"kind": KIND, "sizes": sizes, "widths": list(self.widths), "features": features, **self.about}
        write_files(out_dir, tensors, record)


def load_policy(policy_dir: str | Path) -> Policy:
    """Read a saved policy; ``PolicyError`` where its features are not the ones that this code computes."""
    record, tensors = read_files(policy_dir, NetworkRecord)
    if record.features != [FeatureRecord(**feature._asdict()) for feature in FEATURES]:
        raise PolicyError(
            f"{policy_dir} was trained on features with other constants than ramp.problem.features has: train again"
        )
    count = len(record.sizes) - 1
    layers = [(tensors[f"layers.{k}.weight"], tensors[f"layers.{k}.bias"]) for k in range(count)]
    wanted = [((d_out, d_in), (d_out,)) for d_in, d_out in pairwise(record.sizes)]
    ends = record.sizes[0], record.sizes[-1]
    if [(weight.shape, bias.shape) for weight, bias in layers] != wanted or ends != (len(FEATURES), len(record.widths)):
        raise PolicyError(
            f"{policy_dir}: layers of {record.sizes} units do not fit the tensors, the {len(FEATURES)} features or the "
            f"widths {record.widths}: train again"
        )
    return Policy(layers, tuple(record.widths), record.about())


def write_files(out_dir: str | Path, tensors: dict[str, np.ndarray], record: dict[str, Any]) -> None:
    """Write a policy of any kind: its tensors, and its record with the format."""
    save_arrays(Path(out_dir) / "policy.safetensors", tensors)
    write_json(Path(out_dir) / "policy.json", {"format": FORMAT, **record}, sealed=True)


def read_files(policy_dir: str | Path, model: type[Record]) -> tuple[Record, dict[str, np.ndarray]]:
    """Read the record and the tensors of a policy of the kind of ``model``; ``RampError`` where they are broken."""
    read_kind(policy_dir)
    path = Path(policy_dir) / "policy.json"
    record = read_json(path, model, sealed=True, again="train again")
    return record, load_tensors(path.with_suffix(".safetensors"), "trained policy", framework="np", again="train again")


def read_kind(policy_dir: str | Path) -> str:
    """Return the kind of a saved policy; ``PolicyError`` where its format is another one."""
    path = require_file(Path(policy_dir) / "policy.json", "trained policy")
    record = read_json(path, PolicyRecord, sealed=True, again="train again")
    if record.format != FORMAT:
        raise PolicyError(f"{path} has format {record.format}, this code reads {FORMAT}: train again")
    return record.kind
