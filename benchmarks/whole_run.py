"""Processor time of a command and of every process that it starts, for instance Snakemake and its fork server.

    python -m benchmarks.whole_run snakemake --cores 2 --configfile config/smoke.yaml

The shell's ``time`` counts only what the command itself waits for. Prints seconds of the clock and of the processor;
ends with the command's status. Linux only: orphans come to this process (prctl, PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of the command line."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        print(__doc__)
        return 2
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    began = time.monotonic()
    status = subprocess.call(words)
    with suppress(ChildProcessError):  # no child is left
        while True:
            os.wait()
    children = sum(os.times()[2:4])
    print(f"{time.monotonic() - began:.1f} s, {children:.1f} s of processor time", file=sys.stderr)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
