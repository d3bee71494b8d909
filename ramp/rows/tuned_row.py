"""A finished row on the affine grid, its float16 group scales and its norms' gains tuned by KL to the float model.

Codes, zero-points, biases, embedding and head are those of the row, bit by bit; so are format and size. The row's
``stage`` is ``tuned``, so that comparisons of final rows never mix both. ``tuned`` in its ``meta.json`` holds the
schedule (``steps``, ``batch``, ``length``, ``rate``, ``warmup``, ``seed``), ``tokens`` (steps x batch x length),
``texts`` (sha256 by role) and ``kl_first`` and ``kl_last``, the mean KL on training text over the first and the last
tenth of the steps. ``wall_s`` and peaks are those of the tuning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ramp.calibration.final_states import float_states
from ramp.core.arithmetic import in_force
from ramp.core.atomic_files import atomic_path, remove, sha256_file, write_json
from ramp.core.cli import log
from ramp.core.provenance import peak_gpu_bytes, peak_rss_bytes
from ramp.core.source_closure import sources_digest
from ramp.core.tensors import Tensors
from ramp.models.empty_model import empty_model, fill
from ramp.models.folder import ModelFolder
from ramp.quantizers.affine import SCALE_MAX, SCALE_MIN, QuantizedLinear
from ramp.rows.checkpoint import WEIGHTS, CheckpointError, open_packed, packed_linears, stored_value
from ramp.rows.meta_file import META, read_meta_of
from ramp.tuning.resume import Progress
from ramp.tuning.scaled_modules import ScaledWeight, Student, scale_gain
from ramp.tuning.schedule import Schedule, refuse_judges, training_windows
from ramp.tuning.train import FloatTarget, TuningError, train

STAGE, TUNED = "final", "tuned"
"""The stage of rows that can be tuned, and that of the result."""


@dataclass(frozen=True)
class PackedFile:
    """An open packed checkpoint."""

    tensors: Tensors
    header: dict[str, Any]
    meta: dict[str, Any]

    @classmethod
    def open(cls, row_dir: Path, model: ModelFolder) -> PackedFile:
        """Open a row that can be tuned; ``CheckpointError`` for any other."""
        meta = read_meta_of(row_dir, model.path)
        if meta["stage"] != STAGE or meta["grid"] != "affine":
            raise CheckpointError(
                f"{row_dir} is a row of stage {meta['stage']} on grid {meta['grid']}: only final affine rows are tuned"
            )
        tensors, header = open_packed(row_dir, meta)
        if dense := [name for name, about in header["linears"].items() if "bits" not in about]:
            raise CheckpointError(
                f"{row_dir} holds {dense[0]} on a grid of its package: it has no scales of ours to tune"
            )
        if set(header["linears"]) != {linear.name for linear in model.linears}:
            raise CheckpointError(f"{row_dir} has other linears than {model.path}: name the row's own model")
        return cls(tensors, header, meta)


def tuned_tensors(student: Student[ScaledWeight]) -> dict[str, Tensor]:
    """Return the tensors of the packed file that training changed, rounded as they are stored.

    Raises ``TuningError`` for a scale that float16 cannot hold.
    """
    found = {name: stored_scales(module.scales.detach(), name) for name, module in student.scales.items()}
    return found | {name: gain(gain.start).detach().cpu() for name, gain in student.gains.items()}


def stored_scales(scales: Tensor, name: str) -> Tensor:
    """Return scales [rows, 1, groups] as float16 [rows, groups], no smaller than the least positive one."""
    if not bool((scales.abs() <= SCALE_MAX).all()):
        raise TuningError(f"{name} has tuned scales that are NaN or beyond float16: lower --rate")
    return scales[:, 0].clamp(min=SCALE_MIN).to("cpu", torch.float16)


def scaled(linear: QuantizedLinear, bias: Tensor | None, device: torch.device) -> ScaledWeight:
    """Return the module of one linear; the basis is codes less zero-points."""
    rows, columns = linear.shape
    codes = linear.codes.view(rows, 1, columns // linear.group_size, linear.group_size).to(device, torch.float16)
    basis = codes - linear.zeros.to(device, torch.float16).view(rows, 1, -1, 1)  # at most 255: exact
    scales = linear.scales.to(device, torch.float32).unsqueeze(1)
    return ScaledWeight(scales, basis, None if bias is None else bias.to(device, torch.float32))


def make_student(row: PackedFile, model: ModelFolder, device: torch.device) -> Student[ScaledWeight]:
    """Return the row as a model to be tuned; embedding and head are frozen as they are stored."""
    loaded, linears = empty_model(model.config, torch.float32), packed_linears(row.tensors, row.header)
    scales: dict[str, ScaledWeight] = {}
    read = partial(stored_value, row.tensors, dtype=torch.float32, device=device)
    for spec in model.linears:
        bias = read(f"{spec.name}.bias") if spec.has_bias else None
        scales[f"{spec.name}.scales"] = scaled(linears[spec.name], bias, device)
        loaded.set_submodule(spec.name, scales[f"{spec.name}.scales"])
    fill(loaded, torch.float32, device, read)
    arch = model.architecture
    norms = [
        f"{arch.blocks}.{i}.{x}" for i in range(model.config.num_hidden_layers) for x in (arch.attn_norm, arch.mlp_norm)
    ]
    gains = {f"{norm}.weight": scale_gain(loaded.get_submodule(norm)) for norm in [*norms, arch.final_norm]}
    return Student(loaded, scales, gains)


def identity(row: PackedFile, model: ModelFolder, texts: Mapping[str, str], schedule: Schedule) -> str:
    """Return the name of a run's state: another one for other code, libraries, arithmetic or inputs."""
    files = sorted(path for path in model.path.iterdir() if path.suffix == ".safetensors")
    about = [row.meta["sha256"], texts, asdict(schedule), in_force(), version("torch"), version("transformers")]
    about += [sources_digest("ramp/rows/tuned_row.py"), {path.name: sha256_file(path) for path in files}]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def tune_row(
    row_dir: str | Path,
    model_dir: str | Path,
    texts: Sequence[Path],
    schedule: Schedule,
    out: str | Path,
    state_dir: str | Path,
    device: torch.device,
) -> dict[str, Any]:
    """Write the tuned row; return its ``meta.json``.

    texts: calibration and training documents. state_dir: folder of checkpoints, from which a killed run goes on. Raises
    ``CheckpointError``, ``TextError``, ``TuningError``.
    """
    model = ModelFolder(model_dir)
    row = PackedFile.open(Path(row_dir), model)
    refuse_judges(texts)
    used, order = schedule.drawn(training_windows(model, texts, schedule.length))
    hashes = {path.stem: sha256_file(path) for path in texts}
    state = Path(state_dir) / identity(row, model, hashes, schedule)  # its own: jobs of other rows write beside it
    state.mkdir(parents=True, exist_ok=True)
    log.info("%d steps on %d windows of %d tokens", schedule.steps, *used.shape)
    head = model.reader.get(model.head_tensor).to(device, torch.float32)
    target = FloatTarget(used, float_states(model, used, device), head)
    student = make_student(row, model, device)
    done = train(student.model, student.changes, target, order, schedule, state / "checkpoint.safetensors")
    tokens = order.numel() * used.shape[1]
    meta = row.meta | about_tuning(schedule, tokens, hashes, done, device)
    written = write_tuned(Path(out), row, tuned_tensors(student), meta)
    remove(state)
    return written


def about_tuning(
    schedule: Schedule, tokens: int, hashes: Mapping[str, str], done: Progress, device: torch.device
) -> dict[str, Any]:
    """Return what the tuned row's ``meta.json`` says otherwise than the row's."""
    losses = {"kl_first": done.mean_loss(last=False), "kl_last": done.mean_loss(last=True)}
    return {
        "stage": TUNED,
        "tuned": {**asdict(schedule), "tokens": tokens, "texts": dict(hashes), **losses},
        "wall_s": round(done.wall_s, 3),
        "peak_rss_bytes": peak_rss_bytes(),
        "peak_gpu_bytes": peak_gpu_bytes(device),
    }


def write_tuned(out: Path, row: PackedFile, changed: Mapping[str, Tensor], meta: dict[str, Any]) -> dict[str, Any]:
    """Write the row's folder with some tensors changed; raise ``TuningError`` where its size would differ."""
    header = row.header | {"key": row.header["key"] | {"stage": TUNED}}
    tensors = {name: changed.get(name, tensor) for name, tensor in row.tensors.items()}
    with atomic_path(out) as folder:
        folder.mkdir()
        path = folder / WEIGHTS
        save_file(tensors, path, metadata={"ramp": json.dumps(header, sort_keys=True)})
        size, before = path.stat().st_size, meta.get("bytes_stored", meta["bytes_file"])
        if size != before:
            raise TuningError(f"the tuned row has {size} bytes instead of {before}: report this bug")
        written = {**meta, "sha256": sha256_file(path)}
        write_json(folder / META, written, sealed=True)
    return written
