"""Measure the Fisher sensitivities of a bank: ``python -m ramp.sensitivity``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ramp.core import cli
from ramp.core.files import write_json
from ramp.sensitivity.fisher import ESTIMATORS, LABELS, fisher_proxy, report
from ramp.sensitivity.one_linear import Setting, options

log = logging.getLogger("ramp.sensitivity.fisher")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the additive sensitivities of one bank."""
    parser = options("Fisher sensitivity of every linear at every width of a bank.", "any but held-out text")
    parser.add_argument("--estimator", choices=list(ESTIMATORS), default="positions", help="see the module's text")
    parser.add_argument("--labels", choices=LABELS, default="model", help="drawn from the model, or the text's own")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn labels")
    args = parser.parse_args(argv)
    setting = Setting.open(args)
    proxy = fisher_proxy(
        setting.model,
        setting.bank,
        setting.windows,
        estimator=args.estimator,
        labels=args.labels,
        seed=args.seed,
        progress=lambda done, of: log.info("backward pass %d of %d", done, of),
    )
    write_json(args.out, report(setting.bank, proxy, setting.windows, args.estimator, args.labels, args.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
