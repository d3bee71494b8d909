"""Write the whole configuration of a study as it was run, defaults included: ``R/config.json``.

python -m ramp.records.settings --settings '{"study": "smoke", ...}' --out results/smoke/config.json
"""

from __future__ import annotations

from collections.abc import Sequence

from ramp.core import cli
from ramp.core.atomic_files import write_json


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Write the configuration of a study as it was run.", "--out")
    parser.add_argument("--settings", type=cli.json_object, required=True, metavar="JSON", help="the configuration")
    args = parser.parse_args(argv)
    write_json(args.out, args.settings)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
