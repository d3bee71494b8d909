"""Files of ours at the bytes of llama.cpp's mixes: ``python -m ramp gguf-mixes --model-dir D --mix Q4_K_M ...``.

Every mix is made by llama.cpp from the same float file, with and without the importance matrix, and for each there is a
file of ours by every ``--method`` that is at most as large. With ``--tune-steps`` all of them stand there once more
with tuned scales, ours beside the tuned mix. All are scored on the same windows of held-out text, so that differences
are paired. ``--out`` is a folder: ``rows.json`` holds one row per file (fields of ``Row``), ``checks.json`` the checks
of the float file and of every file of ours, ``windows.json`` the sums per window. Files and bank stay in ``--work``, in
a folder named by a hash of the checkpoint, the texts, the settings, the sources and the libraries: a killed run goes on
there.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import atomic_path, read_json, sha256_file, write_json
from ramp.core.cli import log
from ramp.core.output_path import OutputFolder
from ramp.core.source_closure import sources_digest
from ramp.gguf_format.type_names import MENU, MIXES
from ramp.sized_gguf.options import KNAPSACK

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.assets.disjoint_roles import guard
    from ramp.export.llamacpp import LlamaCppError, require_llamacpp
    from ramp.export.llamacpp_check import Check
    from ramp.export.plan import read_plan
    from ramp.methods.loader import split_reference
    from ramp.models.folder import ModelFolder
    from ramp.models.token_windows import read_documents
    from ramp.search.journal import ROOT
    from ramp.search.setup import find_allocator
    from ramp.sized_gguf import score
    from ramp.sized_gguf.allocate import Frame, cheapest, file_bytes
    from ramp.sized_gguf.bank import GgmlBank
    from ramp.sized_gguf.inputs import check_model, fingerprint
    from ramp.sized_gguf.job import Job, Settings, locked
    from ramp.sized_gguf.make import check, choose_types, make_bank, write_model
    from ramp.sized_gguf.rival import check_bytes, float_file, make_mix
    from ramp.sized_gguf.scales import ScaleError
    from ramp.sized_gguf.speed import measure_speeds
    from ramp.sized_gguf.texts import Texts
    from ramp.sized_gguf.tuned_file import tuned_copy
    from ramp.sized_gguf.units import check_menu, list_units


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


@dataclass(frozen=True)
class Made:
    """One file before it is scored."""

    path: Path
    method: str
    matrix: bool
    tuned_for: int = 0  # steps; 0: scales are the quantizer's own
    rival: Path | None = None  # the mix at whose bytes it was made, tuned alike


def make_mixes(job: Job, mixes: Sequence[str], tune_steps: int = 0) -> list[Made]:
    """Return every mix that llama.cpp makes, with and without the matrix; with ``tune_steps`` each one tuned, too."""
    source, made = float_file(job.model, job.work), []
    for mix in mixes:
        for matrix in (True, False):
            try:
                rival = make_mix(mix, source, job.imatrix if matrix else None, job.work / "mixes", job.workers)
                made.append(Made(rival.path, mix, matrix))
                if tune_steps:
                    path = tuned_copy(replace(job, tune_steps=tune_steps), rival.path)
                    made.append(Made(path, mix, matrix, tuned_for=tune_steps))
            except (LlamaCppError, ScaleError) as error:
                log.warning("no %s %s a matrix: %s", mix, "with" if matrix else "without", error)
    return made


def our_files(
    job: Job, bank: GgmlBank, mixes: Sequence[Made], methods: Sequence[str]
) -> tuple[list[Made], list[Check]]:
    """Return files of ours beside each mix, of at most its bytes, and their checks; none below the smallest file."""
    made: list[Made] = []
    checks: list[Check] = []
    least = file_bytes(job.frame, job.units, cheapest(job.units))
    for method, mix in itertools.product(methods, mixes):
        size = mix.path.stat().st_size
        if size < least:
            log.warning("no file of ours beside %s: the smallest has %d bytes", mix.path.name, least)
            continue
        ending = f"-tuned{mix.tuned_for}" if mix.tuned_for else ""
        path = job.work / "file" / f"{method}-{size}{ending}.gguf"
        kept = path.with_suffix(".checks.json")
        if not kept.is_file():
            sized = replace(job, size=size, out=path, method=method, tune_steps=mix.tuned_for)
            types = choose_types(sized, bank)
            path, plan = write_model(sized, bank, types)
            found = check(sized, path, plan)
            if not mix.tuned_for:  # tuned scales are no quantizer's
                source = float_file(job.model, job.work)
                found.append(check_bytes(path, types, source, job.imatrix, job.workers))
            write_json(kept, [asdict(one) for one in found], sealed=True)
        if all(path != other.path for other in made):
            checks += read_json(kept, list[Check], sealed=True)
        made.append(Made(path, method, True, mix.tuned_for, rival=mix.path))
    return made, checks


def check_float(job: Job) -> list[Check]:
    """Return the checks of the float file that every mix is made from: within 0.1 % of transformers in perplexity."""
    path = float_file(job.model, job.work)
    kept = path.with_suffix(".checks.json")
    if not kept.is_file():
        plan = read_plan(path.with_suffix(".plan.json"))
        write_json(kept, [asdict(one) for one in check(job, path, plan)], sealed=True)
    return read_json(kept, list[Check], sealed=True)


def scored(job: Job, files: Sequence[Made], windows: int) -> tuple[dict[str, score.Windows], score.Windows]:
    """Return the windows of every file by its name, and the float model's; what was scored once is read."""
    folder = job.work / f"scores-{windows}"
    folder.mkdir(exist_ok=True)
    tokens = job.model.windows(job.texts.held_out, length=job.settings.length, count=windows)
    reference, head = score.float_reference(job.model, tokens)
    for file in files:
        kept = folder / f"{file.path.name}.json"
        if not kept.is_file():
            write_json(kept, score.score_file(file.path, job.model, reference, head), sealed=True)
    found = {file.path.name: read_json(folder / f"{file.path.name}.json", score.Windows, sealed=True) for file in files}
    return found, score.reference_windows(reference)


def run(
    job: Job, mixes: Sequence[str], methods: Sequence[str], windows: int, tune_steps: int
) -> tuple[list[Row], list[Check], dict[str, score.Windows]]:
    """Return rows, checks and windows by file; the float file is checked first."""
    float_checks = check_float(job)
    bank = make_bank(job)
    rivals = make_mixes(job, mixes, tune_steps)
    ours, checks = our_files(job, bank, rivals, methods)
    checks = [*float_checks, *checks]
    by_file, base = scored(job, [*rivals, *ours], windows)
    speeds = measure_speeds(sorted({file.path for file in [*rivals, *ours]}), job.workers)
    rows = []
    for file in [*rivals, *ours]:
        found = by_file[file.path.name]
        kl = score.kl_of(found)
        row = Row(
            model=job.model.name,
            file=file.path.name,
            method=file.method,
            matrix=file.matrix,
            tuned=file.tuned_for > 0,
            bytes_file=file.path.stat().st_size,
            kl=kl.value,
            kl_low=kl.low,
            kl_high=kl.high,
            ppl_ratio=score.perplexity_ratio(found, base).value,
            top1=score.agreement(found),
            **asdict(speeds[file.path]),
        )
        if file.rival is not None:
            theirs = by_file[file.rival.name]
            ratio = score.kl_ratio(found, theirs)
            row = replace(
                row,
                rival=file.rival.name,
                rival_bytes_file=file.rival.stat().st_size,
                rival_kl=score.kl_of(theirs).value,
                kl_ratio=ratio.value,
                ratio_low=ratio.low,
                ratio_high=ratio.high,
            )
        rows.append(row)
    return rows, checks, by_file


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Make files at the bytes of llama.cpp's mixes, and score both.", "--model-dir --seed --out/")
    option = parser.add_argument
    option("--mix", nargs="+", required=True, choices=MIXES, help="mixes of llama.cpp")
    option("--method", nargs="+", default=[KNAPSACK], help="allocators of baselines/, each a file beside every mix")
    option("--params", type=cli.json_object, default={}, help="parameters by method, as a JSON object of objects")
    option("--evals", type=int, default=100, help="evaluations of one that searches, for each file")
    option("--text", type=Path, required=True, help="calibration documents (JSON lines)")
    option("--heldout-text", type=Path, required=True, help="held-out documents (JSON lines)")
    option("--search-text", type=Path, default=None, help="documents that candidates are scored on; none: calibration")
    option("--selection-text", type=Path, default=None, help="documents that a search's result is chosen on; likewise")
    option("--train-text", type=Path, default=None, help="documents that scales are tuned on, beside calibration text")
    option("--tune-steps", type=int, default=0, help="tune every file for so many steps, too; 0: none")
    option("--tokens", type=int, default=16384, help="calibration tokens behind the importance matrix")
    option("--length", type=int, default=512, help="tokens per window of it, and of held-out text")
    option("--windows", type=int, default=8, help="windows of the backward pass")
    option("--window-length", type=int, default=256, help="tokens per window of it")
    option("--heldout-windows", type=int, default=16, help="windows of held-out text")
    option("--types", nargs="+", default=list(MENU), help="ggml types to choose from")
    option("--work", type=OutputFolder, required=True, help="folder of intermediate files")
    args: argparse.Namespace = parser.parse_args(argv)
    searching = sorted({*args.method} - {KNAPSACK})
    methods = [find_allocator(method, args.params.get(method))[0] for method in searching]
    files = [split_reference(source)[0].relative_to(ROOT) for source in methods]
    require_llamacpp()
    model = ModelFolder(args.model_dir)
    check_model(model)
    menu = check_menu(args.types)
    units = list_units(model.config, menu)
    settings = Settings(args.tokens, args.length, args.windows, args.window_length, menu, args.seed)
    search, selection, training = (
        each or args.text for each in (args.search_text, args.selection_text, args.train_text)
    )
    texts = Texts(args.text, args.heldout_text, search, selection, training, args.text.stem, args.heldout_text.stem)
    used = {f"text {index}": read_documents(path) for index, path in enumerate(texts.used())}
    guard(used | {"held-out": read_documents(args.heldout_text)})
    searched = ["ramp/sized_gguf/search.py", *map(str, files)] if searching else []
    sources = sources_digest("ramp/sized_gguf/make.py", *searched)
    about: dict[str, Any] = {"sources": sources, "texts": texts.hashes()}
    about["training"] = sha256_file(texts.training)
    if searching:
        about["search"] = [args.evals, sha256_file(texts.search), sha256_file(texts.selection)]
        if params := {method: args.params[method] for method in searching if method in args.params}:
            about["params"] = params
    about["versions"] = [version(package) for package in ("libgguf", "cyllama", "gguf", "transformers", "tokenizers")]
    key = fingerprint(model, asdict(settings) | about | {"arithmetic": args.arithmetic})
    work: Path = args.work / f"{model.name}-{key}"
    work.mkdir(parents=True, exist_ok=True)
    frame = Frame.of(model, units, model.name)
    job = Job(
        model, model.name, units, frame, 0, settings, texts, work, args.out, args.threads or 1,
        evals=args.evals, params=args.params,
    )  # fmt: skip
    with locked(work):
        rows, checks, windows = run(job, args.mix, args.method, args.heldout_windows, args.tune_steps)
    with atomic_path(args.out) as folder:
        folder.mkdir()
        write_json(folder / "rows.json", [asdict(row) for row in rows], sealed=True)
        write_json(folder / "checks.json", [asdict(one) for one in checks], sealed=True)
        write_json(folder / "windows.json", windows, sealed=True)
    failed = [one for one in checks if not one.ok]
    for one in failed:
        log.error("check failed: %s: %s is %g, limit %g", one.file, one.check, one.value, one.limit)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
