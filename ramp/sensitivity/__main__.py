"""Measure the sensitivities of a bank, of one kind: ``python -m ramp.sensitivity``.

A kind's module is imported by its name (``ramp.sensitivity.kinds``), so that an edit to one kind reruns no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ramp.calibration.text_options import add_draw
from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.sensitivity.kinds import DEFAULT, SENSITIVITIES

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.models.device import pick_device, pick_dtype
    from ramp.models.folder import ModelFolder
    from ramp.models.token_windows import token_windows
    from ramp.sensitivity.setting import Setting


def main(argv: Sequence[str] | None = None) -> int:
    """Write the additive sensitivities of one bank."""
    parser = cli.parser("Additive sensitivity of every linear at every width of a bank.", "--model-dir --seed --out")
    parser.add_argument("--kind", choices=list(SENSITIVITIES), default=DEFAULT, help="what is measured")
    parser.add_argument("--bank", type=Path, required=True, help="bank folder of ramp.bank")
    parser.add_argument("--fold", type=Path, required=True, help="fold file that the bank was built with")
    parser.add_argument("--text", type=Path, required=True, help="JSON lines: calibration text; search text for Fisher")
    parser.add_argument("--windows", type=int, default=8, help="windows, spread over it")
    parser.add_argument("--length", type=int, default=256, help="tokens per window")
    add_draw(parser)
    args = parser.parse_args(argv)
    windows = token_windows(
        ModelFolder(args.model_dir).tokenizer(), args.text, length=args.length, count=args.windows, draw=args.draw
    )
    setting = Setting.open(
        args.model_dir, args.bank, args.fold, windows,
        device=pick_device(args.device), dtype=pick_dtype(args.dtype, args.model_dir), seed=args.seed,
    )  # fmt: skip
    write_json(args.out, import_module(SENSITIVITIES[args.kind]).measure(setting, args.kind), sealed=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
