"""Measure the entropy of the codes of packed rows and write it as entropy.csv.

    python -m ramp.records.collect_entropy --rows R/quantized/M/gptq-b4-s0/meta.json ... --out R/records

Reads the packed file beside each ``meta.json`` (``ramp.rows.code_entropy``); the rows themselves do not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.cli import log
from ramp.core.output_path import OutputFolder

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.records.runs import Run, content_of, named
    from ramp.records.table import RecordsError, write_tables
    from ramp.rows.code_entropy import row_entropy
    from ramp.rows.meta_file import read_meta

DIGITS = 9
"""Digits after the point: logarithms differ between processors in the last of sixteen."""


def entropy_line(meta_file: Path) -> Run:
    """Return the line of entropy.csv of one row."""
    meta = read_meta(meta_file.parent)
    found = row_entropy(meta_file.parent)
    with content_of(meta_file):
        return {
            **named(meta, ("model", "method", "budget_bits", "seed")),
            "bits_stored": round(found.bits_stored, DIGITS),
            "bits_entropy": round(found.bits_entropy, DIGITS),
            "saving": round(found.bytes_saved / meta["bytes_linear"], DIGITS),
            "weights": found.weights,
            "bytes_linear": meta["bytes_linear"],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Measure the entropy of the codes of packed rows.")
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="meta.json of packed rows")
    parser.add_argument("--out", type=OutputFolder, required=True, help="folder of the records")
    args = parser.parse_args(argv)
    if not args.rows:
        raise RecordsError("no row to read: name at least one meta.json with --rows")
    lines = []
    for path in args.rows:
        lines.append(entropy_line(path))
        log.info("%s: %.4f bits of %.4f", path.parent, lines[-1]["bits_entropy"], lines[-1]["bits_stored"])
    write_tables(args.out, {"entropy": lines})
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
