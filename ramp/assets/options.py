"""Options of the commands on assets: roles of texts, and entries that are not in the registry's file.

Nothing heavy is imported: a command reads its arguments first (``ramp.core.cli``).
"""

from __future__ import annotations

import argparse
from typing import Literal, get_args

from ramp.core.cli import json_object, named_value

Role = Literal["calibration", "train", "search", "selection", "heldout"]
"""What a document may be for: second moments, training, scoring candidates, choosing among the best, and judging."""

ROLES: tuple[str, ...] = get_args(Role)

OPTIONAL_TEXTS = frozenset({"wikitext2"})
"""Texts that a study may name although its registry lacks them (config/config.yaml does); scored where they are."""


def named_role(text: str) -> tuple[str, str]:
    """Return role and asset of ``calibration=my-text``; argparse names the fault of another form."""
    form = f"ROLE=NAME with a role of {', '.join(ROLES)}"
    role, name = named_value(text, form)
    if role not in ROLES:
        raise argparse.ArgumentTypeError(f"'{text}' is not {form}")
    return role, name


def own_entry(text: str) -> tuple[str, dict[str, object]]:
    """Return name and entry of ``NAME=JSON``; argparse names the fault of another form."""
    name, entry = named_value(text, "NAME=JSON")
    return name, json_object(entry)


def add_entry_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--entry``: entries that are not in the registry's file."""
    text = "entries of the study's own, as JSON"
    parser.add_argument("--entry", nargs="*", type=own_entry, default=[], metavar="NAME=JSON", help=text)
