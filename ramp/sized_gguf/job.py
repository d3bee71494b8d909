"""One file to make: everything that can be checked before the long work starts."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ramp.assets.registry import load_registry
from ramp.core.atomic_files import remove_partials
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile, OutputFolder, check_path
from ramp.core.source_closure import sources_digest
from ramp.export.llamacpp import require_llamacpp
from ramp.gguf_format.names import GgufError
from ramp.gguf_format.type_names import MENU
from ramp.models.folder import ModelFolder
from ramp.sized_gguf.allocate import Frame, check_size
from ramp.sized_gguf.card import base_model
from ramp.sized_gguf.importance import importance_windows
from ramp.sized_gguf.inputs import check_model, find_model, fingerprint
from ramp.sized_gguf.llama_perplexity import CHUNK, check_characters
from ramp.sized_gguf.options import EVALS, KNAPSACK, TUNE_STEPS
from ramp.sized_gguf.size import SizeRequestError, memory_beside_weights, parse_size, weights_in
from ramp.sized_gguf.texts import Texts, open_texts, require_windows
from ramp.sized_gguf.units import Unit, check_menu, list_units
from ramp.tuning.schedule import Schedule

BESIDE = ("plan.json", "types.txt", "imatrix.gguf", "card.md", "result.json")
"""Endings of the files beside the output."""

DEFAULT_CONTEXT = 4096
"""Tokens of context that --fits leaves room for."""

SEARCH_WINDOWS, SEARCH_LENGTH = 16, 128
"""Windows that candidates of a search are scored on, as in the study."""

CHECK_WINDOWS, CHECK_LENGTH = 2, 512
"""Held-out windows on which llama.cpp's perplexity is compared with transformers'."""


@dataclass(frozen=True)
class Settings:
    """Settings that the work folder depends on beside the checkpoint and the calibration text."""

    tokens: int  # of calibration text behind the importance matrix
    length: int  # of its windows, in tokens
    windows: int  # of the backward pass
    window_length: int  # of these, in tokens
    menu: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Job:
    """One file to make, with everything that was checked before the work starts."""

    model: ModelFolder
    source: str  # MODEL as it was given
    units: list[Unit]
    frame: Frame
    size: int  # bytes that the file may have
    settings: Settings
    texts: Texts
    work: Path
    out: Path
    workers: int
    method: str = KNAPSACK
    policy: Path | None = None  # folder of a trained policy that chooses the types
    evals: int = 0
    refit: bool = False
    tune_steps: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)  # parameters by method, over the defaults of its file

    @property
    def imatrix(self) -> Path:
        """The importance matrix in the work folder."""
        return self.work / "imatrix.gguf"

    @property
    def policy_dir(self) -> Path:
        """Return where a search of this method leaves its policy, if it trains one."""
        return self.work / f"policy-{self.method}"

    @property
    def change(self) -> str:
        """Return what a table appends to the file's name where scales are not the quantizer's own."""
        return ", tuned" if self.tune_steps else ", refitted" if self.refit else ""

    @property
    def tuned_note(self) -> str:
        """Return what the plan and the card say of scales that are not the quantizer's own; empty where they are."""
        notes = ["scales fitted again by least squares on calibration text"] if self.refit else []
        if self.tune_steps:
            notes.append(f"scales and norm gains tuned by KL to the float model, {self.tune_steps} steps")
        return "; ".join(notes)

    def beside(self, ending: str) -> Path:
        """Return a file beside the output: ``model.gguf`` and ``plan.json`` give ``model.plan.json``."""
        return self.out.with_suffix(f".{ending}")


def read_size(args: argparse.Namespace, model: ModelFolder, frame: Frame) -> int:
    """Return the bytes that --size, --bpw or --fits ask for."""
    if args.size is not None:
        return parse_size(args.size)
    if args.bpw is not None:
        if not 0 < args.bpw < 32:
            raise SizeRequestError(f"--bpw {args.bpw} is no number of bits per weight: try 4.5")
        return int(args.bpw * frame.weights / 8)
    context = args.context if args.context is not None else min(DEFAULT_CONTEXT, model.config.max_position_embeddings)
    size = weights_in(model.config, parse_size(args.fits), context)
    beside = memory_beside_weights(model.config, context)
    log.info(
        "a context of %d tokens takes %d bytes of cache (float16) and about %d of buffers: %d are left for the file",
        *(context, beside.cache, beside.buffers, size),
    )
    return size


def check_room(folder: Path, wanted: int, name: str) -> None:
    """Raise ``RampError`` where a disk has no room for the bank, the file and what it is compared with."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise RampError(
            f"{name} needs about {wanted / 1e9:.1f} GB for intermediate files and {folder} has {free / 1e9:.1f} GB "
            "free: point --work to another disk, choose fewer --types, or add --no-rival"
        )


def check_numbers(args: argparse.Namespace) -> None:
    """Raise ``RampError`` for numbers that no stage can use."""
    least = {"tokens": args.length, "length": 2, "windows": 1, "window_length": 2, "heldout_windows": 1, "evals": 1}
    for name, smallest in {**least, "tune_steps": 1, "seed": 0, "llama_perplexity": 0}.items():
        given = getattr(args, name)
        if given is not None and not smallest <= given < 1 << 62:
            raise RampError(f"--{name.replace('_', '-')} {given} is not possible: at least {smallest}")
    companions = (
        ("--context", args.context, args.fits is not None, "--fits SIZE"),
        ("--tune-steps", args.tune_steps, args.tune, "--tune"),
        ("--evals", args.evals, args.method != KNAPSACK, "a searching --method"),
    )
    for option, given, is_used, needed in companions:
        if given is not None and not is_used:
            raise RampError(f"{option} has no effect without {needed}: give that too, or leave it out")
    if args.device not in ("auto", "cpu") or args.dtype != "float32":
        raise RampError("this command computes on the processor in float32: leave out --device and --dtype")


def check_chooser(args: argparse.Namespace, menu: tuple[str, ...]) -> None:
    """Raise for a method or a policy that cannot choose types: ``MethodError``, ``PolicyError``, ``RampError``."""
    if args.method != KNAPSACK:
        from ramp.search.setup import find_allocator

        if args.policy is not None:
            raise RampError(f"--policy {args.policy} chooses the types alone: leave out --method {args.method}")
        find_allocator(args.method)
    if args.policy is not None:
        from ramp.search.trained_policy import read_policy
        from ramp.sized_gguf.search import action_names

        widths, names = tuple(read_policy(args.policy).widths), action_names(menu)
        if widths != names:
            cure = "give the types that it was trained on"
            if not {str(each) for each in widths} & set(MENU):
                cure = "give one that this command trained, with --method ramp"
            raise RampError(
                f"the policy in {args.policy} chooses among {', '.join(map(str, widths))}, these --types give "
                f"{', '.join(names)}: {cure}"
            )


def make_folders(out: Path, base: Path) -> None:
    """Make the folders of a run; ``RampError`` where they, or a file beside the output, cannot be written."""
    for ending in BESIDE:
        check_path(OutputFile(out.with_suffix(f".{ending}")), "--out: beside it,")
    check_path(OutputFolder(base), "--work")
    for folder in (base, out.parent):
        folder.mkdir(parents=True, exist_ok=True)


def wanted_windows(args: argparse.Namespace, model: ModelFolder) -> list[tuple[str, int, int]]:
    """Return the windows that a run reads: role, length and number."""
    wanted = [
        ("held_out", args.length, args.heldout_windows),
        ("held_out", CHECK_LENGTH, CHECK_WINDOWS),
        ("calibration", args.window_length, args.windows),
        ("calibration", *importance_windows(model, args.tokens, args.length)),
    ]
    if args.llama_perplexity:
        wanted.append(("held_out", CHUNK, args.llama_perplexity))
    if args.method != KNAPSACK:
        wanted += [(role, SEARCH_LENGTH, 2 * SEARCH_WINDOWS) for role in ("search", "selection")]
    if args.tune:
        wanted += [(role, Schedule().length, Schedule().batch) for role in ("calibration", "training")]
    return wanted


def open_job(args: argparse.Namespace) -> Job:
    """Check everything that can be checked without the long work; return the job."""
    out: Path = args.out
    if out.suffix != ".gguf":
        raise GgufError(f"{out} is not named *.gguf: llama.cpp's tools expect that ending")
    check_numbers(args)
    if args.size is not None:
        parse_size(args.size)  # a typing error is told before a model is fetched
    menu = check_menu(args.types.split(","))
    check_chooser(args, menu)
    mixes = not args.no_rival or args.llama_perplexity  # both need the float file, and llama.cpp's own tools
    require_llamacpp()
    registry = load_registry(args.registry)
    base: Path = args.work or out.parent / ".ramp-gguf"
    make_folders(out, base)
    name = base_model(args.model)[0].rpartition("/")[2]
    model = ModelFolder(find_model(args.model, registry, base / "models").resolve(), name)
    check_model(model)
    units = list_units(model.config, menu)
    frame = Frame.of(model, units, model.name)
    size = read_size(args, model, frame)
    check_size(size, frame, units)
    texts = open_texts(registry, base / "texts", args.text, args.heldout_text)
    require_windows(model, texts, wanted_windows(args, model))
    if args.llama_perplexity:
        check_characters(model, texts.held_out, texts.held_out_name)
    settings = Settings(args.tokens, args.length, args.windows, args.window_length, menu, args.seed)
    about = {
        "sources": sources_digest(
            "ramp/sized_gguf/importance.py", "ramp/sized_gguf/bank.py", "ramp/sized_gguf/rival.py"
        ),
        "text": texts.hashes()["calibration"],
        "versions": [version(each) for each in ("libgguf", "cyllama", "gguf", "transformers", "tokenizers")],
        "arithmetic": args.arithmetic,
    }
    work = base / f"{model.name}-{fingerprint(model, asdict(settings) | about)}"
    if not work.is_dir():
        bank = sum(unit.room(kind) for unit in units for kind in unit.types)
        rival = 4 * frame.weights + size if mixes else 0
        check_room(base, bank + 2 * size + rival, out.name)
    work.mkdir(exist_ok=True)
    return Job(
        model=model,
        source=args.model,
        units=units,
        frame=frame,
        size=size,
        settings=settings,
        texts=texts,
        work=work,
        out=out,
        workers=args.threads or os.cpu_count() or 1,
        method=args.method,
        policy=args.policy,
        evals=args.evals or EVALS,
        refit=args.refit,
        tune_steps=(args.tune_steps or TUNE_STEPS) if args.tune else 0,
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a work folder."""
    with open(folder / ".lock", "a") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: worker processes would inherit it
        except OSError:
            raise RampError(f"another run works in {folder}: wait for it, or pass another --work") from None
        for place in [folder, *(path for path in folder.iterdir() if path.is_dir())]:
            remove_partials(place)  # of runs that were killed
        yield
