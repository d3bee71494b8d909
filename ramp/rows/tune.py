"""Tune the scales of a finished row by KL to the float model; codes, zero-points and size stay.

    python -m ramp.rows.tune --row-dir R/quantized/M/ramp-b4-s0 --model-dir R/models/M \\
        --text R/texts/calibration.jsonl R/texts/train.jsonl --state-dir R/.state/tuning \\
        --out R/quantized/M/ramp-b4-s0-tuned
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ramp.core import cli
from ramp.core.cli import log
from ramp.core.output_path import OutputFolder
from ramp.tuning.schedule import Schedule

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.models.device import pick_device
    from ramp.rows.tuned_row import tune_row

HELP = {
    "steps": "training steps",
    "batch": "windows per step",
    "length": "tokens per window; cut to the model's context",
    "rate": "largest step of a scale's relative change",
    "warmup": "steps until the rate is reached; a tenth of a short schedule",
    "seed": "seed of the order of windows",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Tune one row."""
    parser = cli.parser("Tune the scales of a finished row by KL to the float model.", "--row-dir --model-dir --out/")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="calibration and training documents")
    parser.add_argument(
        "--state-dir", type=OutputFolder, required=True, help="folder of checkpoints, to resume after a kill"
    )
    for each in fields(Schedule):
        parser.add_argument(f"--{each.name}", type=type(each.default), default=each.default, help=HELP[each.name])
    args = parser.parse_args(argv)
    schedule = Schedule(**{each.name: getattr(args, each.name) for each in fields(Schedule)})
    meta = tune_row(
        args.row_dir, args.model_dir, args.text, schedule, args.out, args.state_dir, pick_device(args.device)
    )
    about = meta["tuned"]
    log.info("%s: KL on training text %.4f at first, %.4f at last", args.out, about["kl_first"], about["kl_last"])
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
