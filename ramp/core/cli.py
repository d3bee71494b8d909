"""Shared parts of every stage's command line: common options, logging, errors as one sentence."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence

from ramp.core.errors import RampError
from ramp.core.memory import peak_rss_bytes

log = logging.getLogger("ramp")


def parser(description: str) -> argparse.ArgumentParser:
    """Return an argument parser with the options that every stage takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_common(made)
    return made


def add_common(to: argparse.ArgumentParser) -> None:
    """Add ``--threads``, ``--device`` and ``--dtype`` (for subcommands, which do not inherit them)."""
    to.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves the library's own choice")
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    to.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16, where the stage has a choice")


def set_threads(threads: int) -> None:
    """Limit torch and OpenMP to ``threads`` (0: leave as is). Call it before the heavy work."""
    if threads > 0:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a stage's ``main``; a ``RampError`` becomes one sentence on stderr and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("httpx", "urllib3", "datasets", "lm_eval", "matplotlib", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    began = time.perf_counter()
    try:
        status = main(argv) or 0
    except RampError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    log.info(
        "done in %.1f s, with %.1f s of processor time and %.0f MiB of memory at peak",
        time.perf_counter() - began, sum(os.times()[:4]), peak_rss_bytes() / 2**20,
    )  # fmt: skip
    return status
