"""Run a campaign of faults and write how they ended: ``python -m tests.faults [--full]``."""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path

from tests.faults import campaign
from tests.faults.chain import ROOT, load

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--full", action="store_true", help="the published size; else the small one")
for each in fields(campaign.Size):
    parser.add_argument(f"--{each.name}", type=int, default=None, help=f"faults: {each.name}")
parser.add_argument("--out", type=Path, default=ROOT / "results" / "published" / "accidents.csv", help="table to write")
parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "accidents.md", help="page to write")
args = parser.parse_args()
given = {each.name: getattr(args, each.name) for each in fields(campaign.Size) if getattr(args, each.name) is not None}
size = replace(campaign.FULL if args.full else campaign.SMALL, **given)
load()
folder, told, lines = campaign.main_folder(), [], []
try:
    for line in campaign.campaign(size, *campaign.prepared(folder), folder / "work", told):
        lines.append(line)
        print(line, flush=True)
        campaign.publish(lines, args.out, args.docs)
finally:
    for fault in told:
        print(fault)
    shutil.rmtree(folder, ignore_errors=True)
bad = sum(line.counts.tracebacks + line.counts.hangs + line.counts.lost for line in lines)
print(f"{sum(line.counts.injected for line in lines)} faults, {bad} without an end that a user can act on", flush=True)
sys.exit(bool(bad))
