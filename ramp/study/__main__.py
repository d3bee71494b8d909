"""Print the schema of the configuration: ``python -m ramp schema``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ramp.core import cli

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.study.config import schema


def main(argv: Sequence[str] | None = None) -> int:
    """Print the schema."""
    parser = cli.Parser(description="The configuration's JSON schema, on standard output.")
    parser.parse_args(argv)
    print(json.dumps(schema(), indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
