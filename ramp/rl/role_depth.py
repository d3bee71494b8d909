"""A table of role and depth: ten numbers, in bits, that allocate a model of any size by its shapes alone.

One number per role of a linear (q, k, v, o, gate, up, down), a slope over depth, and a bonus for the first and for the
last block. A linear with the sum s wants s bits more than the average one; at a loss of 4^-bits per weight that is what
params * 4^(s - bits) says, and the greedy allocator spends the budget on it. baselines/role_depth.py fits the numbers
by search; ``TablePolicy`` carries them to other models, as ``ramp.rl.policy`` does a network.

As a file: ``policy.safetensors`` holds ``numbers`` float64 [10]; ``policy.json`` holds ``format`` (1), ``kind``
("role_depth"), the ``numbers`` by name, and ``widths``, ``model``, ``method``, ``budgets``, ``seed``, ``episodes`` as
a network's (``ramp.rl.policy``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ramp.allocators import greedy
from ramp.models.architecture import ROLES, LinearSpec
from ramp.problem.problem import Problem
from ramp.quantizers.widths import Width
from ramp.rl.environment import AllocationEnv
from ramp.rl.policy import PolicyError, TrainedRecord, read_files, write_files

KIND = "role_depth"
NAMES = (*ROLES, "depth", "first", "last")
"""Names of the ten numbers."""


def design(linears: Sequence[LinearSpec]) -> np.ndarray:
    """Return float64 [n, 10]: the weight of each number in each linear's sum; depth runs from -1 to 1."""
    layers = np.array([linear.layer for linear in linears])
    last = max(1, int(layers.max()))
    roles = [[float(linear.role == role) for role in ROLES] for linear in linears]
    return np.column_stack([roles, 2 * layers / last - 1, layers == 0, layers == layers.max()])


def table_choice(numbers: np.ndarray, problem: Problem, budget_bytes: int) -> np.ndarray:
    """Return the allocation int64 [n] of a table [10] within the budget; ``AllocationError`` where none fits."""
    wanted = design(problem.linears) @ numbers  # [n], bits above the average
    params = np.array([linear.params for linear in problem.linears], dtype=np.float64)
    loss = params[:, None] * 4.0 ** (wanted[:, None] - problem.rates)
    return greedy.solve(loss, problem.bytes, budget_bytes)


@dataclass(frozen=True, kw_only=True)
class TableRecord(TrainedRecord):
    """Content of a table's policy.json."""

    numbers: dict[str, float]


@dataclass
class TablePolicy:
    """Ten numbers as a policy, applied to other models without an evaluation."""

    numbers: np.ndarray  # float64 [10], as NAMES
    widths: tuple[Width, ...]
    about: dict[str, Any] = field(default_factory=dict)  # model, method, budgets, seed, episodes

    def allocation(self, env: AllocationEnv) -> np.ndarray:
        """Return the table's choice int64 [n] under the environment's budget."""
        return table_choice(self.numbers, env.problem, env.budget)

    def save(self, out_dir: str | Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json``."""
        numbers = {name: float(number) for name, number in zip(NAMES, self.numbers, strict=True)}
        record = {"kind": KIND, "numbers": numbers, "widths": list(self.widths), **self.about}
        write_files(out_dir, {"numbers": np.asarray(self.numbers, dtype=np.float64)}, record)


def load_table(policy_dir: str | Path) -> TablePolicy:
    """Read a saved table; ``PolicyError`` where its numbers have other names or are not finite."""
    record, tensors = read_files(policy_dir, TableRecord)
    if record.kind != KIND or set(record.numbers) != set(NAMES):
        raise PolicyError(f"{policy_dir}/policy.json is no table of {', '.join(NAMES)}: fit it again")
    numbers = tensors.get("numbers", np.zeros(0))
    if numbers.shape != (len(NAMES),) or not np.isfinite(numbers).all():
        raise PolicyError(f"{policy_dir}/policy.safetensors should hold {len(NAMES)} finite numbers: fit it again")
    return TablePolicy(numbers, tuple(record.widths), record.about())
