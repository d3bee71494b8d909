"""Shared parts of every stage's command line: common options, logging, errors as one sentence."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ramp.core import arithmetic
from ramp.core.errors import RampError
from ramp.core.faults import sentence
from ramp.core.provenance import peak_rss_bytes

DEBUG = "--debug"
DTYPES = ("float32", "bfloat16", "float64")
log = logging.getLogger("ramp")

TRACKS = ("q8_0", "fp16")
"""Types of embedding and head, alike for every method of a study."""


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that an option holds."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a JSON object ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text} is not a JSON object")
    return found


OPTIONS: dict[str, dict[str, Any]] = {
    "--model-dir": {"type": Path, "required": True, "help": "Hugging Face checkpoint folder of the float model"},
    "--row-dir": {"type": Path, "required": True, "help": "folder of the row, with its meta.json"},
    "--method-file": {"required": True, "help": "file that registers the method"},
    "--params": {"type": json_object, "default": {}, "help": "JSON object: the method's parameters"},
    "--group-size": {"type": int, "default": 128, "help": "weights that share one scale"},
    "--track": {"choices": TRACKS, "default": TRACKS[0], "help": "how embedding and head are stored"},
    "--seed": {"type": int, "default": 0, "help": "seed in the row's key, and of every random draw"},
    "--study": {"default": "", "help": "name of the study"},
    "--registry": {"type": Path, "default": Path("config/assets.yaml"), "help": "registry of assets"},
    "--assets": {"type": Path, "required": True, "help": "folder of all fetched assets"},
    "--out": {"type": Path, "required": True, "help": "file or folder to write; an old one is replaced"},
}
"""Options that several stages take, alike in all of them."""


class Threads(argparse.Action):
    """``--threads``, which limits torch and OpenMP as soon as it is read."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """Keep the number and limit the threads to it; 0 leaves them as they are."""
        setattr(namespace, self.dest, values)
        if values > 0:
            arithmetic.set_threads(values)


def parser(description: str, options: str = "") -> argparse.ArgumentParser:
    """Return an argument parser with the options that every stage takes, and those of ``OPTIONS`` that are named.

    ``options``: their names, separated by blanks.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_common(made, options)
    return made


def add_common(to: argparse.ArgumentParser, options: str = "") -> None:
    """Add the options of every stage and the named ``OPTIONS`` (subcommands do not inherit them)."""
    threads = "processor threads; 0 leaves the library's own choice"
    to.add_argument("--threads", type=int, action=Threads, default=0, help=threads)
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    to.add_argument("--dtype", default="float32", choices=DTYPES, help="where the stage has a choice")
    kinds = "reproducible: the same bytes on any x86-64 processor with AVX2; fast: the library's own kernels"
    to.add_argument("--arithmetic", default=arithmetic.REPRODUCIBLE, choices=arithmetic.KINDS, help=kinds)
    to.add_argument(DEBUG, action="store_true", help="print the traceback of an error too")
    for option in options.split():
        to.add_argument(option, **OPTIONS[option])


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a stage's ``main``; a fault that a user can act on becomes one sentence on stderr and exit status 2.

    That is a ``RampError``, and what ``ramp.core.faults`` knows: a full disk, no memory, a damaged file. An
    interruption ends with status 130. ``--debug`` adds the traceback.
    """
    logging.raiseExceptions = False  # a log on a full disk is no reason to stop, or to say more
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("httpx", "urllib3", "datasets", "lm_eval", "matplotlib", "fontTools", "gguf"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # libraries draw bars of their own; in a log they are noise
    debug = DEBUG in (sys.argv if argv is None else argv)
    if argv is None:
        sys.argv[1:] = [each for each in sys.argv[1:] if each != DEBUG]
    began = time.perf_counter()
    try:
        if argv is None:  # else a caller's process, whose arithmetic is its own
            arithmetic.prepare(sys.argv[1:])
        status = main(argv) or 0
    except SystemExit:
        raise
    except BaseException as error:  # an interruption and a panic of a library in Rust too
        told = str(error) if isinstance(error, RampError) else sentence(error)
        if told is None:
            raise
        if debug:
            traceback.print_exc()
        print(f"error: {told}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 2
    log.info(
        "done in %.1f s, with %.1f s of processor time and %.0f MiB of memory at peak",
        time.perf_counter() - began, sum(os.times()[:4]), peak_rss_bytes() / 2**20,
    )  # fmt: skip
    return status
