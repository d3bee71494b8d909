"""The failed jobs of a run, each with the last line of its own log, read from Snakemake's log."""

from __future__ import annotations

import re
from pathlib import Path


def failed_jobs(log: Path) -> list[str]:
    """Return a sentence for every failed job that Snakemake's ``log`` names, each once, in their order."""
    text = log.read_text(encoding="utf-8", errors="replace")
    found = {}
    for block in re.split(r"^Error in rule ", text, flags=re.MULTILINE)[1:]:
        rule = block.partition(":")[0]
        named = re.search(r"^    log: (.+?)(?: \(check log file|$)", block, flags=re.MULTILINE)
        file = named[1].split(", ")[0] if named else ""
        found[rule, file] = f"{rule}: {last_line(Path(file)) or 'it left no message'}" + (f" ({file})" if file else "")
    return list(found.values())


def last_line(file: Path) -> str:
    """Return the last line that holds anything; of a stage that is its one sentence."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
