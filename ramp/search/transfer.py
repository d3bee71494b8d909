"""Zero-shot transfer: a policy trained on one model allocates the bits of another, without training on it.

Transfer never evaluates the target model: it takes no gradient, no sensitivity and no score of it. A network reads the
static features, from the target's calibration statistics and weights; a greedy masked pass gives the widths, and
leftover bytes go where the policy's own prices are least. A table of role and depth (``ramp.rl.role_depth``) needs the
shapes alone: the gain of a network over it is what the features add to the architecture.

    python -m ramp.search.transfer --policy R/search/M/ramp/3.65/0 --source M --model-dir R/models/T \\
        --bank R/bank/T/awq-gptq --fold R/folds/T/awq.safetensors ...

writes the allocation file (``ramp.problem.allocation``) with method ``{source method}_transfer``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.methods.names import transferred
    from ramp.problem.allocation import record_allocation, write_allocation
    from ramp.problem.banked_model import BankedModel
    from ramp.problem.problem import AllocationError
    from ramp.rl.policy import PolicyError
    from ramp.search.trained_policy import no_evaluation, read_policy, transfer


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Allocate a target model's bits with a policy trained on another model, without evaluating it.")
    parser.add_argument("--policy", type=Path, required=True, help="folder with policy.safetensors and policy.json")
    parser.add_argument("--source", required=True, help="name of the model that the policy was trained on")
    parser.add_argument("--model-dir", type=Path, required=True, help="target checkpoint folder")
    parser.add_argument("--bank", type=Path, required=True, help="the target's bank folder")
    parser.add_argument("--fold", type=Path, default=None, help="the target's fold file")
    parser.add_argument("--calibration", type=Path, required=True, help="the target's activation statistics")
    parser.add_argument("--budget", type=float, required=True, help="bits per weight that the budget stands for")
    parser.add_argument("--group-size", type=int, default=128, help="group size that was asked for")
    parser.add_argument("--seed", type=int, default=0, help="seed of the source's run; a transfer draws nothing")
    parser.add_argument("--study", default="", help="name of the study")
    parser.add_argument("--out", type=OutputFile, required=True, help="allocation file to write")
    args = parser.parse_args(argv)
    began = time.monotonic()
    policy = read_policy(args.policy)
    if policy.about["model"] != args.source:
        raise PolicyError(
            f"{args.policy} was trained on {policy.about['model']}, --source says {args.source}: correct one of them"
        )
    target = BankedModel(args.model_dir, args.bank, args.fold)
    if target.bank.group_size != args.group_size:
        raise AllocationError(f"{args.bank} has groups of {target.bank.group_size}, --group-size is {args.group_size}")
    problem = target.problem(args.calibration, args.budget, no_evaluation, no_evaluation)
    choice = transfer(policy, problem)
    trained = ", ".join(f"{bits:g}" for bits in policy.about["budgets"])
    record = record_allocation(
        problem,
        choice,
        kind="policy",
        study=args.study,
        method=transferred(policy.about["method"]),
        seed=args.seed,
        group_size=args.group_size,
        fold=target.bank.fold,
        quantizer=target.bank.quantizer,
        policy_bits=problem.widths_of(choice),
        search_wall_s=round(time.monotonic() - began, 3),
        notes=f"policy of {args.source}, trained at {trained} bits, {policy.about['episodes']} episodes; zero-shot",
    )
    write_allocation(args.out, record)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
