"""Shared parts of every stage's command line: common options, logging, errors as one sentence.

Importing torch costs seconds, and a wrong option should not wait for it. So a stage stands in two parts: what its
options need is imported at once, what does its work behind ``if __name__ != "__main__":``. ``run`` lets the module
that ``python -m`` started read the arguments, then imports the module by its own name, whole, and calls its ``main``.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from ramp.core import arithmetic, freed_memory
from ramp.core.atomic_files import finite_number
from ramp.core.errors import RampError
from ramp.core.faults import sentence
from ramp.core.function_times import VARIABLE, FunctionTimes
from ramp.core.output_path import OutputFile, OutputFolder, check_path
from ramp.core.provenance import peak_rss_bytes

DEBUG = "--debug"
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))
"""Threads beyond which an option is a mistake: every one of them may become a process."""

CHECKPOINT = "checkpoint"
"""The dtype of a model's own weights."""

DTYPES = ("float32", "bfloat16", "float16", "float64", CHECKPOINT)
log = logging.getLogger("ramp")

TRACKS = ("q8_0", "fp16")
"""Types of embedding and head, alike for every method of a study."""


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that an option holds."""
    try:
        found = json.loads(text, parse_float=finite_number, parse_constant=finite_number)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a JSON object ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text} is not a JSON object")
    return found


def named_value(text: str, form: str) -> tuple[str, str]:
    """Return both sides of a ``NAME=VALUE``; argparse shows the ``form`` where one is missing."""
    name, _, value = text.partition("=")
    if not (name and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not {form}")
    return name, value


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
    "--out": {"type": OutputFile, "required": True, "help": "file to write; an old one is replaced"},
    "--out/": {"type": OutputFolder, "required": True, "help": "folder to write; an old one is replaced"},
}
"""Options that several stages take, alike in all of them; a slash tells those of one name apart."""


class ArgumentsRead(Exception):
    """The arguments of a command are right: what does its work may be loaded."""


class Parser(argparse.ArgumentParser):
    """A parser that limits torch and OpenMP to ``--threads``, where a stage has that option; 0 leaves them alone."""

    reading = False
    """Whether ``run`` has the arguments read, and nothing else done."""
    debug = False
    """Whether the command line of this process has ``--debug``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("type", int, worded(int, "no whole number"))
        self.register("type", float, worded(float, "no number"))

    def error(self, message: str) -> NoReturn:
        """End with the fault of a command line, and where its options are listed."""
        command = f"python -m {self.prog} " if self.prog.startswith("ramp ") else ""
        self.exit(2, f"error: {message}\n({command}--help lists the options)\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options; raise ``ArgumentsRead`` in their place while ``run`` only has them read."""
        found = super().parse_args(args, namespace)
        self._check_values(vars(found))
        if Parser.reading:
            raise ArgumentsRead
        if getattr(found, "threads", 0) > 0:
            arithmetic.set_threads(found.threads)
        return found

    def _check_values(self, given: Mapping[str, Any]) -> None:
        """Raise ``RampError`` for a path that cannot be written, and for a number that no stage can use.

        Numbers are finite, and whole ones not below 0; -1 is a group size.
        """
        for name, values in given.items():
            option = f"--{name.replace('_', '-')}"
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, Path):
                    check_path(value, option)
                elif isinstance(value, float) and not math.isfinite(value):
                    raise RampError(f"{option} {value} is no finite number: give one")
                elif type(value) is int and value < 0 and name != "group_size":
                    raise RampError(f"{option} {value} is below 0: give 0 or more")
                elif type(value) is int and name == "threads" and value > MOST_THREADS:
                    raise RampError(f"{option} {value}: at most {MOST_THREADS} are taken")


def worded(parse: Callable[[str], Any], fault: str = "") -> Callable[[str], Any]:
    """Return ``parse`` as the type of an option: argparse shows what it says of a text, or that it is a ``fault``."""

    def call(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is {fault}" if fault else str(error)) from None

    return call


def count(text: str) -> int:
    """Return the whole number above 0 that an option holds."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def parser(description: str, options: str = "") -> Parser:
    """Return an argument parser with the options that every stage takes, and those of ``OPTIONS`` that are named.

    ``options``: their names, separated by blanks.
    """
    made = Parser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_common(made, options)
    return made


def add_common(to: argparse.ArgumentParser, options: str = "") -> None:
    """Add the options of every stage and the named ``OPTIONS`` (subcommands do not inherit them)."""
    threads = "processor threads; 0 leaves the library's own choice"
    to.add_argument("--threads", type=int, default=0, help=threads)
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    to.add_argument("--dtype", default="float32", choices=DTYPES, help="where the stage has a choice")
    kinds = "reproducible: the same bytes on any x86-64 processor with AVX2; fast: the library's own kernels"
    to.add_argument("--arithmetic", default=arithmetic.REPRODUCIBLE, choices=arithmetic.KINDS, help=kinds)
    to.add_argument(DEBUG, action="store_true", help="print the traceback of an error too")
    for option in options.split():
        to.add_argument(option.rstrip("/"), **OPTIONS[option])


Main = Callable[[Sequence[str] | None], int | None]


def work(main: Main, argv: Sequence[str] | None) -> int | None:
    """Call ``main`` for its status; one that ``python -m`` started reads its arguments before the work is loaded."""
    spec = inspect.unwrap(main).__globals__.get("__spec__")
    if argv is not None or main.__module__ != "__main__" or spec is None:
        return main(argv)
    Parser.reading = True
    try:
        return main(None)  # of a stage without options, or with a parser of another kind: it has done its work
    except ArgumentsRead:
        pass
    finally:
        Parser.reading = False
    whole: Main = getattr(import_module(spec.name), main.__name__)
    return whole(None)


def profiled(argv: Sequence[str] | None) -> AbstractContextManager[object]:
    """Return what counts a stage's time by function, where the environment asks for it; a caller's process has none."""
    folder = os.environ.get(VARIABLE) if argv is None else None
    return FunctionTimes(Path(folder)) if folder and not FunctionTimes.is_open else nullcontext()


def run(main: Main, argv: Sequence[str] | None = None) -> int:
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
    if argv is None:  # ``python -m ramp NAME`` runs the command by this function too
        Parser.debug = Parser.debug or DEBUG in sys.argv
        sys.argv[1:] = [each for each in sys.argv[1:] if each != DEBUG]
    debug = Parser.debug if argv is None else DEBUG in argv
    began = time.perf_counter()
    try:
        if argv is None:  # else a caller's process, whose memory and arithmetic are its own
            freed_memory.keep()
            arithmetic.prepare(sys.argv[1:])
        with profiled(argv):
            status = work(main, argv) or 0
    except SystemExit:
        raise
    except BaseException as error:  # an interruption and a panic of a library in Rust too
        message = str(error) if isinstance(error, RampError) else sentence(error)
        if message is None:
            raise
        with suppress(OSError):  # the log lies on a full disk: the status says it alone
            if debug:
                traceback.print_exc()
            print(f"error: {message}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 2
    log.info(
        "done in %.1f s, with %.1f s of processor time and %.0f MiB of memory at peak",
        time.perf_counter() - began, sum(os.times()[:4]), peak_rss_bytes() / 2**20,
    )  # fmt: skip
    return status
