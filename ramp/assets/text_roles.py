"""Texts and their roles: which documents calibrate, train, search, select, and which are held out.

Writes R/texts/{role}.jsonl (one document per line: ``doc``, ``sha256`` of its text, ``text``) and guard.json, which
holds the sha256 of every file besides.
A document belongs to one role, drawn from the hash of its text by the registry's shares. Extra test texts add columns
of their own and are never changed. ``--role calibration=NAME`` gives a role all documents of one text and none of the
others. Paragraphs that two roles would share are dropped before anything is written;
``guard`` then reads the finished files and refuses any overlap.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ramp.assets.registry import load_registry
from ramp.assets.roles import ROLES, write_texts
from ramp.core import cli
from ramp.core.cli import log


def named_role(text: str) -> tuple[str, str]:
    """Return role and asset of ``calibration=my-text``; argparse names the fault of another form."""
    role, equals, name = text.partition("=")
    if not (equals and role in ROLES and name):
        raise argparse.ArgumentTypeError(f"'{text}' is no ROLE=NAME with a role of {', '.join(ROLES)}")
    return role, name


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("assign documents to roles and prove that these are disjoint", "--registry --assets --out")
    parser.add_argument("--extra", nargs="*", default=[], help="test texts by name in the registry")
    parser.add_argument(
        "--role",
        nargs="*",
        type=named_role,
        default=[],
        metavar="ROLE=NAME",
        help="texts that have a role to themselves",
    )
    args = parser.parse_args(argv)
    report = write_texts(load_registry(args.registry), args.assets, args.extra, args.out, dict(args.role))
    for role, count in report["roles"].items():
        log.info("%s: %d documents, %d characters", role, count["documents"], count["characters"])
    for name, reason in report["absent"].items():
        log.info("%s is left out: %s", name, reason)


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
