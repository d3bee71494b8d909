"""Files of ours at the bytes of llama.cpp's mixes: ``python -m ramp gguf-mixes --model-dir D --mix Q4_K_M ...``.

Every mix is made by llama.cpp from the same float file, with and without the importance matrix, and for each there is a
file of ours that is at most as large. All are scored on the same windows of held-out text, so that differences are
paired. ``--out`` is a folder: ``rows.json`` holds one row per file (fields of ``Row``), ``checks.json`` the checks of
every file of ours, ``windows.json`` the sums per window. Files and bank stay in ``--work``, in a folder named by a hash
of the checkpoint, the calibration text, the settings and the sources: a killed run goes on there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.cli import log
from ramp.core.files import atomic_path, sha256_file, write_json
from ramp.core.source_closure import closure
from ramp.export.check import Check
from ramp.export.llamacpp import LlamaCppError
from ramp.ggml import score
from ramp.ggml.allocate import Frame, allocate, cheapest, file_bytes
from ramp.ggml.bank import GgmlBank
from ramp.ggml.inputs import check_model, fingerprint
from ramp.ggml.job import FORMAT, Job, Settings, locked
from ramp.ggml.make import check, make_bank, write_model
from ramp.ggml.rival import Rival, float_file, make_mix
from ramp.ggml.speed import Speed, measure_speed
from ramp.ggml.texts import Texts
from ramp.ggml.units import check_menu, list_units
from ramp.gguf.type_names import MENU, MIXES
from ramp.models.folder import ModelFolder

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """One file; None where a mix has no rival, or nothing was measured."""

    model: str
    file: str
    method: str  # an allocator of ours, or the mix's name
    matrix: bool  # whether an importance matrix was used
    tuned: bool  # whether scales were tuned after quantizing
    bytes_file: int
    kl: float  # to the float model, nats per token
    kl_low: float | None
    kl_high: float | None
    ppl_ratio: float  # over the float model's
    top1: float  # share of positions with the float model's first choice
    prompt_tokens_per_s: float
    generation_tokens_per_s: float
    peak_rss_bytes: int
    rival: str | None = None  # file of the mix at whose bytes this one was made
    rival_bytes_file: int | None = None
    rival_kl: float | None = None
    kl_ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


def make_row(job: Job, path: Path, windows: score.Windows, base: score.Windows, speed: Speed, **about: Any) -> Row:
    """Return the row of one file without a rival."""
    kl = score.kl_of(windows)
    return Row(
        model=job.model.name,
        file=path.name,
        bytes_file=path.stat().st_size,
        kl=kl.value,
        kl_low=kl.low,
        kl_high=kl.high,
        ppl_ratio=score.perplexity_ratio(windows, base).value,
        top1=score.agreement(windows),
        tuned=False,
        **asdict(speed),
        **about,
    )


def make_mixes(job: Job, mixes: Sequence[str]) -> list[tuple[Rival, bool]]:
    """Return every mix that llama.cpp makes, with and without the matrix, and whether it had one."""
    source, made = float_file(job.model, job.work), []
    for mix in mixes:
        for matrix in (True, False):
            try:
                made.append((make_mix(mix, source, job.imatrix if matrix else None, job.work / "mixes", 2), matrix))
            except LlamaCppError as error:
                log.warning("no %s %s a matrix: %s", mix, "with" if matrix else "without", error)
    return made


def our_file(job: Job, bank: GgmlBank, size: int, name: str) -> tuple[Path, list[Check]] | None:
    """Return a file of at most ``size`` bytes with its checks; None below the smallest one."""
    if size < file_bytes(job.frame, job.units, cheapest(job.units)):
        return None
    sized = replace(job, size=size, out=job.work / name)
    path, plan = write_model(sized, bank, allocate(bank, job.frame, size))
    return path, check(sized, path, plan, "cyllama")


def run(job: Job, mixes: Sequence[str], windows: int) -> tuple[list[Row], list[Check], dict[str, score.Windows]]:
    """Return rows, checks and windows by file."""
    bank = make_bank(job)
    tokens = job.model.windows(job.texts.held_out, length=job.settings.length, count=windows)
    reference, head = score.float_reference(job.model, tokens)
    base = score.reference_windows(reference)
    rows: list[Row] = []
    checks: list[Check] = []
    by_file: dict[str, score.Windows] = {}

    def add(path: Path, **about: Any) -> Row:
        by_file[path.name] = score.score_file(path, job.model, reference, head)
        rows.append(make_row(job, path, by_file[path.name], base, measure_speed(path, 2), **about))
        return rows[-1]

    done: dict[int, Row] = {}
    for rival, matrix in make_mixes(job, mixes):
        theirs = add(rival.path, method=rival.mix, matrix=matrix)
        if theirs.bytes_file not in done:
            made = our_file(job, bank, theirs.bytes_file, f"knapsack-{theirs.bytes_file}.gguf")
            if made is None:
                continue
            path, found = made
            checks += found
            done[theirs.bytes_file] = add(path, method="knapsack", matrix=True)
            rows.pop()
            path.unlink()
        ours = done[theirs.bytes_file]
        ratio = score.kl_ratio(by_file[ours.file], by_file[theirs.file])
        beside = replace(ours, rival=theirs.file, rival_bytes_file=theirs.bytes_file, rival_kl=theirs.kl)
        rows.append(replace(beside, kl_ratio=ratio.value, ratio_low=ratio.low, ratio_high=ratio.high))
    return rows, checks, by_file


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = cli.parser("Make files at the bytes of llama.cpp's mixes, and score both.", "--model-dir --seed --out")
    option = parser.add_argument
    option("--mix", nargs="+", required=True, choices=MIXES, help="mixes of llama.cpp")
    option("--text", type=Path, required=True, help="calibration documents (JSON lines)")
    option("--heldout-text", type=Path, required=True, help="held-out documents (JSON lines)")
    option("--tokens", type=int, default=16384, help="calibration tokens behind the importance matrix")
    option("--length", type=int, default=512, help="tokens per window of it, and of held-out text")
    option("--windows", type=int, default=8, help="windows of the backward pass")
    option("--window-length", type=int, default=256, help="tokens per window of it")
    option("--heldout-windows", type=int, default=16, help="windows of held-out text")
    option("--types", nargs="+", default=list(MENU), help="ggml types to choose from")
    option("--work", type=Path, required=True, help="folder of intermediate files")
    args: argparse.Namespace = parser.parse_args(argv)
    model = ModelFolder(args.model_dir)
    check_model(model)
    menu = check_menu(args.types)
    units = list_units(model.config, menu)
    settings = Settings(args.tokens, args.length, args.windows, args.window_length, menu, args.seed)
    texts = Texts(args.text, args.heldout_text, args.text.stem, args.heldout_text.stem)
    about: dict[str, Any] = {"format": FORMAT, "text": texts.hashes()["calibration"], "libgguf": version("libgguf")}
    about["sources"] = {name: sha256_file(ROOT / name) for name in closure(ROOT, "ramp/ggml/make.py")}
    key = fingerprint(model, asdict(settings) | about | {"arithmetic": args.arithmetic})
    work: Path = args.work / f"{model.name}-{key}"
    work.mkdir(parents=True, exist_ok=True)
    frame = Frame.of(model, units, model.name)
    job = Job(model, model.name, units, frame, 0, settings, texts, work, args.out, args.threads or 1)
    with locked(work):
        rows, checks, windows = run(job, args.mix, args.heldout_windows)
    with atomic_path(args.out) as folder:
        folder.mkdir()
        write_json(folder / "rows.json", [asdict(row) for row in rows])
        write_json(folder / "checks.json", [asdict(one) for one in checks])
        write_json(folder / "windows.json", windows)
    failed = [one for one in checks if not one.ok]
    for one in failed:
        log.error("check failed: %s: %s is %g, limit %g", one.file, one.check, one.value, one.limit)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
