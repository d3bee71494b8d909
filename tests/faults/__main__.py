"""Run a campaign of faults and write how they ended: ``python -m tests.faults [--full]``."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import fields, replace
from pathlib import Path

from tests.faults import campaign
from tests.faults.chain import ROOT, load


def main() -> int:
    """Return 1 where a fault ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the whole campaign; else the small one")
    names = [each.name for each in fields(campaign.Size)]
    for name in names:
        parser.add_argument(f"--{name}", type=int, default=None, help=f"faults: {name}")
    published = ROOT / "results" / "published" / "accidents.csv"
    parser.add_argument("--out", type=Path, default=published, help="table to write")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "accidents.md", help="page to write")
    args = parser.parse_args()
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    size = campaign.FULL if args.full else campaign.Size(*[0] * len(names)) if given else campaign.SMALL
    size = replace(size, **given)
    load()
    folder, told, lines = campaign.main_folder(), [], []
    try:
        for line in campaign.campaign(size, *campaign.prepared(folder), folder / "work", told):
            lines.append(line)
            print(line, *told, sep="\n    ", flush=True)
            told.clear()
            campaign.publish(lines, args.out, args.docs)
    finally:
        print(*told, sep="\n    ", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    bad = sum(line.counts.tracebacks + line.counts.hangs + line.counts.lost for line in lines)
    print(f"{sum(line.counts.injected for line in lines)} faults, {bad} without an end that a user can act on")
    return int(bool(bad))


if __name__ == "__main__":  # workers of the export import this module again
    raise SystemExit(main())
