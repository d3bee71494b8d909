"""Zero-shot transfer: a policy trained on one model allocates the bits of another, untouched.

No gradient, no sensitivity and no evaluation of the target. For a network its calibration statistics and weights give
the static features, a greedy masked pass gives the widths, and leftover bytes go where the policy itself minds least. A
table of role and depth (``ramp.rl.role_depth``) needs the shapes alone: what a network gains over it is what it knows
beyond the architecture.

    python -m ramp.search.transfer --policy R/search/M/ramp/3.65/0 --source M --model-dir R/models/T \\
        --bank R/bank/T/awq-gptq --fold R/folds/T/awq.safetensors ...

writes the allocation file (``ramp.problem.allocation``) with method ``{source method}_transfer``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ramp.core import cli
from ramp.core.files import read_json, require_file
from ramp.models.architecture import list_linears
from ramp.models.folder import read_config
from ramp.problem.allocation import as_bits, write_allocation
from ramp.problem.features import read_stats, static_features, weight_moments
from ramp.problem.problem import AllocationError, Problem
from ramp.quantizers.sizes import budget_bytes, bytes_matrix
from ramp.rl.environment import AllocationEnv
from ramp.rl.policy import KIND as NETWORK
from ramp.rl.policy import Policy, PolicyError, load_policy
from ramp.rl.role_depth import KIND as TABLE
from ramp.rl.role_depth import TablePolicy, load_table
from ramp.scoring.score import Score

LOADERS: dict[str, Callable[[Path], Policy | TablePolicy]] = {NETWORK: load_policy, TABLE: load_table}
"""What reads a policy, by the kind in its policy.json; one without a kind is a network."""


def read_policy(policy_dir: Path) -> Policy | TablePolicy:
    """A policy of any kind that can be carried to another model; ``PolicyError`` for a kind that none reads."""
    kind = read_json(require_file(policy_dir / "policy.json", "trained policy")).get("kind", NETWORK)
    if kind not in LOADERS:
        raise PolicyError(f"{policy_dir}/policy.json is of kind '{kind}' (known: {', '.join(LOADERS)}): train it again")
    return LOADERS[kind](policy_dir)


def no_evaluation(choice: np.ndarray) -> Score:
    """The target's model is not there to be asked."""
    raise AllocationError("a transfer evaluates nothing on its target")


def target_problem(
    model_dir: Path, bank_dir: Path, fold_file: Path | None, calibration: Path, budget: float, group_size: int
) -> tuple[Problem, dict[str, Any]]:
    """The target as a problem without evaluators or proxy, and its bank's index."""
    from ramp.calibration.folding import load_fold

    config = read_config(model_dir)
    linears = list_linears(config)
    index = read_json(require_file(bank_dir / "bank.json", "bank"))
    if index["group_size"] != group_size:
        raise AllocationError(
            f"{bank_dir} has groups of {index['group_size']}, {group_size} was asked for: pass the bank's own"
        )
    fold = load_fold(fold_file, config) if fold_file else {}
    widths = tuple(index["widths"])
    problem = Problem(
        model=model_dir.name,
        linears=linears,
        widths=widths,
        bytes=bytes_matrix(linears, widths, group_size),
        budget_bytes=budget_bytes(linears, budget, group_size),
        budget_bits=budget,
        features=static_features(linears, read_stats(calibration, fold), weight_moments(model_dir, linears, fold)),
        proxy=None,
        evaluate=no_evaluation,
        select=no_evaluation,
    )
    return problem, index


def transfer(policy: Policy | TablePolicy, problem: Problem) -> np.ndarray:
    """The policy's allocation [n] of ``problem``; its widths must be the ones the policy was trained with.

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


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = cli.parser("Allocate a target model's bits with a policy trained on another model, without evaluating it.")
    parser.add_argument("--policy", type=Path, required=True, help="folder with policy.safetensors and policy.json")
    parser.add_argument("--source", required=True, help="name of the model that the policy was trained on")
    parser.add_argument("--model-dir", type=Path, required=True, help="target checkpoint folder")
    parser.add_argument("--bank", type=Path, required=True, help="the target's bank folder")
    parser.add_argument("--fold", type=Path, default=None, help="the target's fold file")
    parser.add_argument("--calibration", type=Path, required=True, help="the target's activation statistics")
    parser.add_argument("--budget", type=float, required=True, help="bits per weight that the budget stands for")
    parser.add_argument("--group-size", type=int, default=128, help="group size that was asked for")
    parser.add_argument("--seed", type=int, default=0, help="seed of the source's run; nothing is drawn here")
    parser.add_argument("--study", default="", help="name of the study")
    parser.add_argument("--out", type=Path, required=True, help="allocation file to write")
    args = parser.parse_args(argv)
    cli.set_threads(args.threads)
    began = time.monotonic()
    policy = read_policy(args.policy)
    if policy.about["model"] != args.source:
        raise PolicyError(
            f"{args.policy} was trained on {policy.about['model']}, --source says {args.source}: correct one of them"
        )
    problem, index = target_problem(
        args.model_dir, args.bank, args.fold, args.calibration, args.budget, args.group_size
    )  # fmt: skip
    choice = transfer(policy, problem)
    trained = ", ".join(f"{bits:g}" for bits in policy.about["budgets"])
    write_allocation(
        args.out,
        problem,
        choice,
        "policy",
        study=args.study,
        method=f"{policy.about['method']}_transfer",
        seed=args.seed,
        group_size=args.group_size,
        fold=index["fold"],
        quantizer=index["quantizer"],
        policy_bits=as_bits(problem, choice),
        search_wall_s=round(time.monotonic() - began, 3),
        notes=f"policy of {args.source}, trained at {trained} bits, {policy.about['episodes']} episodes; zero-shot",
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
