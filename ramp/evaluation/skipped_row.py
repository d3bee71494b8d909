"""Write the row of a quantizer or allocator that cannot run on this machine: its key and the reason, no scores.

    python -m ramp.evaluation.skipped_row --study S --model M --method NAME --budget 4 --seed 0 --kind uniform
    --reason "no GPU" \\
        --out R/quantized/M/NAME-b4-s0/meta.json --metrics R/metrics/M/NAME-b4-s0.json

The reason comes from the method's ``skip`` or from missing ``requirements``
(``ramp.methods.kinds.reason_not_to_run``); tables mark the row and print the reason below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.core.cli import log
from ramp.core.output_path import OutputFile
from ramp.core.provenance import hardware

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.evaluation.metrics import metrics

KINDS = ("uniform", "not run")
"""``kind`` of the record: a uniform row, or a mixed one whose allocator did not run."""


def skipped_meta(reason: str, track: str, **key: Any) -> dict[str, Any]:
    """Return ``meta.json``: ``key`` is study, model, method, budget_bits, group_size, fold and seed."""
    note = reason.replace(";", ",")  # notes are joined by semicolons
    own = {"grid": "affine", "stage": "final", "track": track, "simulated": False}
    return {**key, **own, "failed": note, "note": note}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Write the row of a method that cannot run here.", "--study --seed --group-size --track")
    for option, what in (("--model", "its short name"), ("--method", "its name")):
        parser.add_argument(option, required=True, help=what)
    parser.add_argument("--budget", type=float, required=True, help="bits per weight of the row")
    parser.add_argument("--fold", default="none", help="the fold that the row would use")
    parser.add_argument("--kind", choices=KINDS, default="uniform", help="kind of the record")
    parser.add_argument("--reason", required=True, help="why it cannot run")
    parser.add_argument("--out", type=OutputFile, required=True, help="meta.json to write")
    parser.add_argument("--metrics", type=OutputFile, required=True, help="metrics file to write")
    args = parser.parse_args(argv)
    meta = skipped_meta(
        args.reason, args.track, study=args.study, model=args.model, method=args.method, budget_bits=args.budget,
        group_size=args.group_size, fold=args.fold, seed=args.seed,
    )  # fmt: skip
    search = None if args.kind == "uniform" else {"kind": args.kind, "search_evals": 0, "search_tokens": 0}
    write_json(args.out, meta, sealed=True)
    write_json(args.metrics, metrics(meta, {}, search, hardware=hardware()), sealed=True)
    log.info("%s does not run: %s", args.method, meta["failed"])
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
