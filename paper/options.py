"""The options of commands that read a study's records; imports no pandas."""

from __future__ import annotations

from pathlib import Path

from ramp.core import cli
from ramp.core.output_path import OutputFile


def parser(description: str, out: str, kind: type[Path] = OutputFile) -> cli.Parser:
    """Return a command line with the options that ``paper.study.Study.of`` reads, and ``--out``, a path of a kind."""
    made = cli.Parser(description=description)
    made.add_argument("--records", type=Path, required=True, help="folder of the records, with claims.json")
    made.add_argument("--claims", type=Path, default=None, help="claims.json, where it is not among the records")
    made.add_argument("--out", type=kind, required=True, help=out)
    return made
