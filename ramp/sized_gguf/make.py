"""The stages of one file: bank, plan, file, checks, comparison. Each leaves its result where the next run finds it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ramp.core.atomic_files import (
    DamagedFile,
    atomic_path,
    json_text,
    seal,
    set_aside,
    sha256_file,
    write_json,
    write_text,
)
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.core.source_closure import sources_digest
from ramp.evaluation.bootstrap import Estimate
from ramp.export.llamacpp_check import Check, check_file
from ramp.export.llamacpp_quantize import read_importance_file
from ramp.export.plan import GgufPlan, sizes_of, type_lines
from ramp.export.write import write_file
from ramp.gguf_format.names import checkpoint_values, gguf_tensors, sliding_window_note, to_gguf_rows
from ramp.models.architecture import architecture
from ramp.quantizers.quantize_rows import RowQuantizer
from ramp.sized_gguf import card
from ramp.sized_gguf.allocate import Types, allocate, file_bytes, plan_types, predicted_kl
from ramp.sized_gguf.bank import BankPass, GgmlBank
from ramp.sized_gguf.importance import importance_windows, measure_importance
from ramp.sized_gguf.job import (
    CHECK_LENGTH,
    CHECK_WINDOWS,
    KNAPSACK,
    SEARCH_LENGTH,
    SEARCH_WINDOWS,
    Job,
)
from ramp.sized_gguf.llama_perplexity import llama_perplexity
from ramp.sized_gguf.refit import refit_model
from ramp.sized_gguf.rival import Rival, float_file, nearest_mix
from ramp.sized_gguf.tune import ChangedTensors, tune
from ramp.tuning.schedule import Schedule, training_windows


def calibration_windows(job: Job) -> torch.Tensor:
    """Return the windows behind the importance matrix and fitted scales, int64 [count, length]."""
    length, count = importance_windows(job.model, job.settings.tokens, job.settings.length)
    return job.model.windows(job.texts.calibration, length=length, count=count)


def make_bank(job: Job) -> GgmlBank:
    """Return the bank, made or completed; a killed run goes on behind its last whole step."""
    settings = job.settings
    with RowQuantizer(job.workers) as quantizer:
        windows = job.model.windows(job.texts.calibration, length=settings.window_length, count=settings.windows)
        importance = kept_importance(job)
        bank = BankPass(job.model, job.units, windows, importance, job.work / "bank", quantizer, seed=settings.seed)
        bank.run()
    return GgmlBank(job.work / "bank", job.units)


def choose_types(job: Job, bank: GgmlBank) -> Types:
    """Return the types of every unit by the job's policy or method; a search that was killed goes on."""
    if job.method == KNAPSACK and job.policy is None:
        return allocate(bank, job.frame, job.size)
    from ramp.sized_gguf.search import SearchTexts, TypeSearch

    search = TypeSearch(job.model, bank, job.settings.menu, job.size - job.frame.bytes, job.imatrix)
    if job.policy is not None:
        return search.by_policy(job.policy)

    def windows(text: Path, part: int) -> torch.Tensor:
        """Take every other window: search and selection share none, even of one text."""
        return job.model.windows(text, length=SEARCH_LENGTH, count=2 * SEARCH_WINDOWS)[part::2]

    texts = SearchTexts(windows(job.texts.search, 0), windows(job.texts.selection, 1))
    state, seed = job.work / "search", job.settings.seed
    return search.by_method(
        job.method, texts, state, job.policy_dir, evals=job.evals, seed=seed, params=job.params.get(job.method, {})
    )


def plan_text(job: Job, bank: GgmlBank, types: Types) -> list[str]:
    """Return the plan for a reader."""
    size = file_bytes(job.frame, job.units, types)
    return [
        f"{job.out.name}: {size:,} bytes, {8 * size / job.frame.weights:.3f} bits per weight, "
        f"at most {job.size:,} were asked for",
        *card.plan_lines(job.units, types),
        f"  predicted KL to the float model: {predicted_kl(bank, types):.3g} nats per token (summed over tensors)",
    ]


def tuned(job: Job, types: Types, packed: Mapping[str, np.ndarray]) -> ChangedTensors:
    """Return tuned scales and gains of a file; a run that was killed goes on, and what was done once is read.

    packed: the tensors' bytes so far, by name.
    """
    schedule = Schedule(steps=job.tune_steps, seed=job.settings.seed)
    texts = list(dict.fromkeys([job.texts.calibration, job.texts.training]))
    about = [asdict(schedule), sources_digest("ramp/sized_gguf/tune.py"), *map(sha256_file, texts)]
    digest = hashlib.sha256(json.dumps(about).encode())
    for name in sorted(packed):
        digest.update(f"{name} {types[name]}".encode() + np.ascontiguousarray(packed[name]).data)
    path = job.work / "tuned" / f"{digest.hexdigest()[:16]}.safetensors"
    path.parent.mkdir(exist_ok=True)
    if (kept := kept_tensors(path)) is None:
        log.info("tuning scales and gains: %d steps on training text", schedule.steps)
        windows = training_windows(job.model, texts, schedule.length)
        checkpoint = path.with_suffix(".checkpoint.safetensors")
        tune(job.model, job.units, types, packed, windows, schedule, checkpoint).save(path)
        checkpoint.unlink(missing_ok=True)
    return kept or ChangedTensors.load(path)


def kept_tensors(path: Path) -> ChangedTensors | None:
    """Return what an earlier run left; None where there is nothing, or it is damaged and set aside."""
    try:
        return ChangedTensors.load(path) if path.is_file() else None
    except DamagedFile as error:
        set_aside(path, error)
        return None


def kept_importance(job: Job) -> dict[str, np.ndarray]:
    """Return the importance matrix of the work folder, measured where there is none or it is damaged."""
    try:
        if job.imatrix.is_file():
            return read_importance_file(job.imatrix)
    except RampError as error:
        set_aside(job.imatrix, error)
    windows = calibration_windows(job)
    log.info("importance matrix from %d tokens of calibration text, in %d windows", windows.numel(), len(windows))
    measure_importance(job.model, windows, job.imatrix)
    return read_importance_file(job.imatrix)


def refitted(job: Job, bank: GgmlBank, types: Types) -> ChangedTensors:
    """Return the tensors whose scales are fitted again by least squares; what was done once is read."""
    about = [dict(sorted(types.items())), sources_digest("ramp/sized_gguf/refit.py")]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    path = job.work / "refit" / f"{digest}.safetensors"
    path.parent.mkdir(exist_ok=True)
    if (kept := kept_tensors(path)) is None:
        packed = {unit.name: bank.packed(unit, types[unit.name]) for unit in job.units}
        fitted = refit_model(job.model, job.units, types, packed, calibration_windows(job))
        ChangedTensors(fitted, {}, []).save(path)
    return kept or ChangedTensors.load(path)


def write_model(job: Job, bank: GgmlBank, types: Types) -> tuple[Path, GgufPlan]:
    """Write the file into the work folder, with the scales that the job asks for; return its path and its plan."""
    started = time.monotonic()
    units = {unit.name: unit for unit in job.units}
    planned = plan_types(job.model, types)
    changed = ChangedTensors({}, {}, [])
    if job.refit:
        changed = refitted(job, bank, types)
    if job.tune_steps:
        packed = {name: bank.packed(unit, types[name]) for name, unit in units.items()}
        changed = tuned(job, types, packed | changed.packed)

    def data() -> Iterator[np.ndarray]:
        for tensor in gguf_tensors(job.model.config):
            if tensor.name in changed.packed:
                yield changed.packed[tensor.name]
            elif tensor.name in changed.gains:
                yield changed.gains[tensor.name]
            elif tensor.name in units:
                yield bank.packed(units[tensor.name], types[tensor.name])
            else:
                values = checkpoint_values(job.model.reader, tensor, job.model.config).numpy()
                yield np.ascontiguousarray(to_gguf_rows(values, tensor.heads))

    path = job.work / "file" / job.out.name
    path.parent.mkdir(exist_ok=True)
    written = write_file(path, job.model, planned, data(), name=job.model.name)
    plan = GgufPlan(
        gguf=job.out.name,
        kind="quantized",
        model=job.model.name,
        architecture=architecture(job.model.config).gguf_arch,
        track="in budget",
        fold="none",
        tensors=written,
        sizes=sizes_of(written, file_bytes(job.frame, job.units, types)),
        notes=[*filter(None, [job.tuned_note, sliding_window_note(job.model.config)])],
        versions={package: version(package) for package in ("gguf", "libgguf")},
        wall_s=round(time.monotonic() - started, 3),
    )
    return path, plan


def check(job: Job, path: Path, plan: GgufPlan) -> list[Check]:
    """Return the checks of the file: against its plan, then in llama.cpp beside transformers."""
    context = int(job.model.config.max_position_embeddings)
    return check_file(
        path,
        plan,
        job.model.path,
        job.texts.held_out,
        length=min(CHECK_LENGTH, context),
        windows=CHECK_WINDOWS,
        threads=job.workers,
    )


def publish(job: Job, path: Path, plan: GgufPlan) -> None:
    """Put the file where it was asked for, with its plan, its type file and its matrix beside it.

    All are on the disk under temporary names before the first of them, the file, gets its own: where the disk is full
    an older file and what lies beside it stay as they are. Card and result of the older file go then.
    """
    units = {unit.name for unit in job.units}
    with ExitStack() as files:  # which renames the last first

        def partial(target: Path) -> Path:
            return files.enter_context(atomic_path(target))

        shutil.copyfile(job.imatrix, partial(job.beside("imatrix.gguf")))
        partial(job.beside("types.txt")).write_text(type_lines([x for x in plan.tensors if x.name in units]), "utf-8")
        partial(job.beside("plan.json")).write_text(json_text(seal(asdict(plan))), "utf-8")
        out = partial(job.out)
        try:
            os.link(path, out)
        except OSError:  # another file system
            shutil.copyfile(path, out)
        for ending in ("card.md", "result.json"):
            job.beside(ending).unlink(missing_ok=True)
        left = job.beside("policy")
        own = job.policy is not None and job.policy.resolve() == left.resolve()
        if not own and (left / "policy.json").is_file():
            shutil.rmtree(left)  # of another search
    if (job.policy_dir / "policy.json").is_file():
        shutil.copytree(job.policy_dir, job.beside("policy"), dirs_exist_ok=True)


@dataclass(frozen=True)
class Comparison:
    """A file on held-out text, and llama.cpp's nearest mix behind it."""

    rows: list[card.Measured]
    ratio: Estimate | None  # of their KLs
    llama_perplexity: dict[str, float]  # of the float file and of the rows; empty where it was not asked for


def compare(job: Job, path: Path, windows: int, rival: bool, chunks: int) -> Comparison:
    """Compare a file, and the nearest mix of llama.cpp, with the float model on held-out text.

    chunks: on so many of the text llama-perplexity's own protocol is followed too.
    """
    from ramp.sized_gguf import score

    tokens = job.model.windows(job.texts.held_out, length=job.settings.length, count=windows)
    other: Rival | None = None
    if rival:
        source = float_file(job.model, job.work)
        k_quants = all(unit.tensor.shape[-1] % 256 == 0 for unit in job.units)
        mixes = job.work / "mixes"
        other = nearest_mix(path.stat().st_size, source, job.imatrix, mixes, job.workers, ordered=k_quants)
    reference, head = score.float_reference(job.model, tokens)
    base = score.reference_windows(reference)
    ours = score.score_file(path, job.model, reference, head)
    found = [(f"{job.out.name}{job.change}", path, ours)]
    if other is not None:
        found.append((f"llama.cpp {other.mix}", other.path, score.score_file(other.path, job.model, reference, head)))
    rows = [
        card.Measured(
            name,
            file.stat().st_size,
            score.kl_of(each),
            score.perplexity_ratio(each, base),
            score.agreement(each),
        )
        for name, file, each in found
    ]
    files = {"float": float_file(job.model, job.work), **{name: file for name, file, _ in found}} if chunks else {}
    context = int(job.model.config.max_position_embeddings)
    perplexities = {
        name: llama_perplexity(file, job.texts.held_out, chunks, context, job.workers) for name, file in files.items()
    }
    return Comparison(rows, score.kl_ratio(ours, found[1][2]) if other is not None else None, perplexities)


def result(
    job: Job, plan: Sequence[str], checks: Sequence[Check], found: Comparison, windows: int, chunks: int, started: float
) -> list[str]:
    """Write ``.result.json`` and ``.card.md``; return the lines for the terminal."""
    passed, rows, ratio = sum(one.ok for one in checks), found.rows, found.ratio
    lines = [*plan, "", *card.comparison(rows)]
    if ratio is not None:
        lines.append(f"  {card.verdict(ratio, rows[0], rows[1])}")
    lines.append(
        f"  held-out text: {job.texts.held_out_name}, {windows} windows of at most {job.settings.length} tokens; "
        f"calibration: {job.texts.calibration_name}"
    )
    if found.llama_perplexity:
        values = ", ".join(f"{name} {value:.4f}" for name, value in found.llama_perplexity.items())
        lines.append(f"  perplexity as llama-perplexity counts it on the first {chunks} chunks: {values}")
    if job.tuned_note:
        lines.append(f"  {job.tuned_note}")
    lines.append(f"  {passed} of {len(checks)} checks passed, in stock llama.cpp too")
    hashes = job.texts.hashes()
    summary: dict[str, Any] = {
        "gguf": job.out.name,
        "source": job.source,
        "held_out": job.texts.held_out_name,
        "windows": windows,
        "length": min(job.settings.length, int(job.model.config.max_position_embeddings)),
        "changed": job.tuned_note,
        "measured": rows,
        "sha256": {
            job.out.name: sha256_file(job.out),
            "importance matrix": sha256_file(job.imatrix),
            "calibration text": hashes["calibration"],
            "held-out text": hashes["held_out"],
        },
    }
    write_text(job.beside("card.md"), card.model_card(summary, lines))
    record = summary | {
        "measured": [asdict(row) for row in rows],
        "llama_perplexity": found.llama_perplexity,
        "llama_perplexity_chunks": chunks,
        "kl_ratio": None if ratio is None else asdict(ratio),
        "checks": [asdict(one) for one in checks],
        "asked": job.size,
        "settings": asdict(job.settings),
        "wall_s": round(time.monotonic() - started, 1),
    }
    write_json(job.beside("result.json"), record)
    return lines
