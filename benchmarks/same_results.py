"""Compare the results of two runs of one study: equal bytes and equal numbers, times aside.

    python -m benchmarks.same_results BEFORE/results/smoke results/smoke

compares every table of ``records/`` and ``claims.json`` cell by cell (as text, so that no digit is lost), and the
allocations, episodes, summaries and policies of all searches byte by byte, without the columns and keys in
``NOT_COMPARED``: times, memory, and what names the commit and the machine. Prints one line per file or table and
exits with 1 if anything differs or is on one side alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas

NOT_COMPARED = {
    "wall_s",
    "search_wall_s",
    "quantize_wall_s",
    "peak_rss_bytes",
    "peak_gpu_bytes",
    "commit",
    "versions",
    "hardware",
    "command",
}
"""Columns of tables and keys of JSON files that may differ between two runs of one commit."""

FILES = ("allocations/**/*.json", "search/**/*.jsonl", "search/**/policy.*", "halo/**/*.gguf", "halo/**/*.txt")
"""Files of a study that are compared byte by byte (JSON: without the keys above)."""


def without_times(value: Any) -> Any:
    """Return a JSON value without the keys in ``NOT_COMPARED``, at any depth."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in NOT_COMPARED}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def digest(path: Path) -> str:
    """Return the sha256 of a file, of JSON without times."""
    if path.suffix == ".json":
        content = json.dumps(without_times(json.loads(path.read_text(encoding="utf-8"))), sort_keys=True).encode()
    else:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()


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
        names |= {str(path.relative_to(root)) for pattern in FILES for path in root.glob(pattern)}
    for name in sorted(names):
        pair = [root / name for root in (before, after)]
        if missing := [str(path) for path in pair if not path.is_file()]:
            yield name, [f"missing: {', '.join(missing)}"]
        else:
            yield name, [] if digest(pair[0]) == digest(pair[1]) else ["bytes differ"]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
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
