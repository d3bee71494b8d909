"""Texts and their roles: which documents calibrate, train, search, select, and which are held out.

Writes R/texts/{role}.jsonl (one document per line: ``doc``, ``sha256`` of its text, ``text``) and guard.json, which
holds the sha256 of every file besides.
A document belongs to one role, drawn from the hash of its text by the registry's shares. Extra test texts add columns
of their own and are never changed. ``--role calibration=NAME`` gives a role all documents of one text and none of the
others. Paragraphs that two roles would share are dropped before anything is written;
``guard`` then reads the finished files and refuses any overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

from ramp.assets.options import ROLES, add_entry_option, named_role
from ramp.core import cli
from ramp.core.cli import log

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.assets.disjoint_roles import write_texts
    from ramp.assets.registry import registry_of


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("assign documents to roles and prove that these are disjoint", "--registry --assets --out/")
    parser.add_argument("--extra", nargs="*", default=[], help="test texts by name in the registry")
    parser.add_argument(
        "--role",
        nargs="*",
        type=named_role,
        default=[],
        metavar="ROLE=NAME",
        help="texts that have a role to themselves",
    )
    parser.add_argument("--unread", nargs="*", default=[], choices=ROLES, help="roles that the study does not read")
    add_entry_option(parser)
    args = parser.parse_args(argv)
    report = write_texts(registry_of(args), args.assets, args.extra, args.out, dict(args.role), args.unread)
    for role, count in report["roles"].items():
        log.info("%s: %d documents, %d characters", role, count["documents"], count["characters"])


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
