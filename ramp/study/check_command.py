"""Check configuration files before Snakemake reads them: every fault in one list, and nothing that they hold is run.

    python -m ramp check --configfile config/mine.yaml --config depth=full

A file that is missing, not UTF-8 or no YAML is told with its place; what the others hold is judged once all are read.
Models and texts of this machine are opened where the configuration has no fault: headers, tokenizers, whole texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.errors import Faults

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.study.local_files import local_faults
    from ramp.study.study_file import configuration, single_keys, study_plan
    from ramp.study.validation import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Print that a configuration has no fault, or raise all that it has."""
    parser = cli.Parser(description="Check a configuration: names, values, models and texts that cannot be read.")
    option = parser.add_argument
    option("--configfile", type=Path, nargs="+", default=[], help="as Snakemake's; none: the embedded study")
    option("--config", nargs="+", default=[], metavar="KEY=VALUE", help="as Snakemake's: single keys")
    args = parser.parse_args(argv)
    plan = study_plan(configuration(args.configfile, single_keys(args.config)))
    faults = Faults()
    faults.add(local_faults(plan))
    faults.tell(ConfigError)
    print(f"no fault: study '{plan.study.study}', {len(plan.rows)} rows on {', '.join(plan.models)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
