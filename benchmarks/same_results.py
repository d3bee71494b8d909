"""Compare the results of two runs of one study: equal bytes and equal numbers, times aside.

    python -m benchmarks.same_results BEFORE/results/smoke results/smoke

compares every table of ``records/`` cell by cell (as text, so that no digit is lost), and the content of the claims and
of what every stage left behind, without the columns and keys in
``ramp.records.intermediate_digests.NOT_COMPARED``: times, memory, and what names the commit and the machine. Prints
one line per file or table and exits with 1 if anything differs or is on one side alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas

from ramp.records.intermediate_digests import NOT_COMPARED, content_digest, stage_files


def different_cells(before: pandas.DataFrame, after: pandas.DataFrame) -> list[str]:
    """Return what differs between two tables of text cells, one short sentence each."""
    if list(before.columns) != list(after.columns) or len(before) != len(after):
        return [f"shape {before.shape} and {after.shape}, columns {set(before.columns) ^ set(after.columns)}"]
    columns = [name for name in before.columns if name not in NOT_COMPARED]
    unequal = before[columns] != after[columns]
    return [
        f"{name}: {int(unequal[name].sum())} of {len(before)} cells, first in row {unequal[name].idxmax()} "
        f"({before[name][unequal[name].idxmax()]!r}, {after[name][unequal[name].idxmax()]!r})"
        for name in columns
        if unequal[name].any()
    ]


def compare(before: Path, after: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (name, differences) of every table and file of two results folders."""
    for name in sorted({path.name for root in (before, after) for path in (root / "records").glob("*.csv")}):
        pair = [root / "records" / name for root in (before, after)]
        if missing := [str(path) for path in pair if not path.is_file()]:
            yield f"records/{name}", [f"missing: {', '.join(missing)}"]
            continue
        yield f"records/{name}", different_cells(*(pandas.read_csv(p, dtype=str, keep_default_na=False) for p in pair))
    names = {"records/claims.json"}
    for root in (before, after):
        names |= {str(path.relative_to(root)) for _, files in stage_files(root) for path in files}
    for name in sorted(names):
        pair = [root / name for root in (before, after)]
        if missing := [str(path) for path in pair if not path.is_file()]:
            yield name, [f"missing: {', '.join(missing)}"]
        else:
            yield name, [] if content_digest(pair[0]) == content_digest(pair[1]) else ["content differs"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Compare the results of two runs of one study, times aside.")
    parser.add_argument("before", type=Path, help="results folder of the first run")
    parser.add_argument("after", type=Path, help="results folder of the second run")
    args = parser.parse_args(argv)
    found = list(compare(args.before, args.after))
    for name, differences in found:
        print(f"{'equal' if not differences else 'DIFFERS'}  {name}")
        for line in differences:
            print(f"         {line}")
    unequal = sum(1 for _, differences in found if differences)
    print(f"{len(found)} compared, {unequal} differ")
    return int(unequal > 0)


if __name__ == "__main__":
    raise SystemExit(main())
