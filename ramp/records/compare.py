"""Compare two runs, or a run with what was published: digests, rows, claims.

    python -m ramp compare RESULTS results/published [--all] [--strict] [--out report.md] [--out report.json]

Each side is a results folder or a folder of records; the second is the one that promises. Printed are the first stage
at which the two runs part, by the digests of what their stages left behind (``python -m ramp digests``); row by row,
paired by the whole record key, whether KL and perplexity agree, and by which promise: equal digits, else the interval
in which a new bank falls (Student's t over the banks of the row in ``banks.csv``), else the row's own 95 % interval
over windows; and the claims whose verdict changed. Rows of banks.csv, league.csv, gguf.csv and tuning.csv are compared
too, where both folders have them. A run of another depth has other windows: its KLs are held to the intervals of both,
a weaker promise that the report counts. Times and hardware are never compared.

Where the folders have no study's rows in common, the digests of the studies that both have decide.

Exit status: 0 where the runs agree, 1 where a row or a claim disagrees (or a digest, where digests decide), 2 for bad
input. Rows on one side alone, rows of other windows or arithmetic and other digests are counted, and are a disagreement
with ``--strict`` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import write_json, write_text
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.records.compare_report import compare
    from ramp.records.compare_side import Recorded


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.Parser(description="Compare two runs, or a run with what was published.")
    parser.add_argument("a", type=Path, help="results folder or folder of records of the run in question")
    parser.add_argument("b", type=Path, help="the same of the run that promises, e.g. results/published")
    parser.add_argument("--all", action="store_true", help="list every row, file and claim, not only what disagrees")
    parser.add_argument("--strict", action="store_true", help="what is on one side alone is a disagreement too")
    parser.add_argument(
        "--out", type=OutputFile, action="append", default=[], help="report.md or report.json; repeatable"
    )
    args = parser.parse_args(argv)
    for path in args.out:
        if path.suffix not in (".md", ".json"):
            raise RampError(f"--out {path} should end in .md or .json")
    found = compare(Recorded.read(args.a), Recorded.read(args.b), args.strict)
    for path in args.out:
        if path.suffix == ".json":
            write_json(path, found.as_json())
        else:
            write_text(path, found.report(args.all))
    print(found.report(args.all), end="")
    return int(bool(found.faults))


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
