"""A trained policy, read from its folder and applied to a problem that it never evaluates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ramp.problem.problem import AllocationError, Problem
from ramp.rl.environment import AllocationEnv
from ramp.rl.policy import KIND as NETWORK
from ramp.rl.policy import Policy, PolicyError, load_policy, read_kind
from ramp.rl.role_depth import KIND as TABLE
from ramp.rl.role_depth import TablePolicy, load_table
from ramp.scoring.score_type import Score

LOADERS: dict[str, Callable[[Path], Policy | TablePolicy]] = {NETWORK: load_policy, TABLE: load_table}
"""Reader of a policy, by the kind in its policy.json; a policy without a kind is a network."""


def read_policy(policy_dir: Path) -> Policy | TablePolicy:
    """Read a policy of any kind; ``PolicyError`` where the kind is unknown."""
    kind = read_kind(policy_dir)
    if kind not in LOADERS:
        raise PolicyError(f"{policy_dir}/policy.json is of kind '{kind}' (known: {', '.join(LOADERS)}): train it again")
    return LOADERS[kind](policy_dir)


def no_evaluation(choice: np.ndarray) -> Score:
    """Refuse: transfer never evaluates the target model."""
    raise AllocationError("transfer never evaluates the target model")


def transfer(policy: Policy | TablePolicy, problem: Problem) -> np.ndarray:
    """Return the policy's allocation [n] of ``problem``, whose widths must be the policy's own.

    Raises:
        PolicyError: other widths.
        AllocationError: the budget is below the cheapest allocation.
    """
    if tuple(policy.widths) != tuple(problem.widths):
        raise PolicyError(
            f"the policy chooses among {list(policy.widths)} bits, the bank of {problem.model} has "
            f"{list(problem.widths)}: build the bank at the policy's widths"
        )
    return policy.allocation(AllocationEnv(problem, masked=True))
