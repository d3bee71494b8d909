"""The job of a baseline that runs another project's package: its inputs, and how the package returns its result.

This module is imported in the study's environment and in the package's (``.envs/NAME``), so it needs numpy and
safetensors only, no torch. A linear is written as soon as it is handed over: no model is in memory twice.

A finished job's folder holds ``linears/{name}.safetensors`` (one file per linear), ``others.safetensors`` (where the
method changed other tensors), ``native/`` (the package's own files) and ``outcome.json``;
``ramp.packages.record_row`` makes a row of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ramp.core.errors import RampError
from ramp.core.tensors import open_tensors, save_arrays
from ramp.quantizers.packed_formats import codes_on_grid

JOB, TOKENS = "job.json", "tokens.safetensors"
OUTCOME, LINEARS, OTHERS, NATIVE = "outcome.json", "linears", "others.safetensors", "native"
"""Names in a job's folder."""

AFFINE, DENSE = "affine", "dense"
"""Form of a linear: on our grid, or as weights on a grid that ours cannot hold."""


class PackageError(RampError):
    """A package handed over a tensor that is no linear of the model, or is not on the grid that it names."""


@dataclass(frozen=True)
class JobSettings:
    """Settings of a job; ``job.json`` holds it with ``model_dir``, ``linears`` and ``group_sizes``."""

    bits: int
    group_size: int
    seed: int
    threads: int
    device: str
    params: dict[str, Any]  # of the method


@dataclass(frozen=True)
class WrittenJob(JobSettings):
    """Content of ``job.json``."""

    model_dir: Path
    linears: list[tuple[str, int, int]]  # name, d_out, d_in
    group_sizes: dict[str, int]


@dataclass(frozen=True)
class Outcome:
    """Content of ``outcome.json``: how the package's process ended."""

    ok: bool
    reason: str  # why there is no result; empty where ok
    note: str = ""  # the method's notes
    native_files: list[str] = field(default_factory=list)  # relative to ``native/``
    linears: dict[str, str] = field(default_factory=dict)  # name -> AFFINE or DENSE
    wall_s: float | None = None  # seconds
    peak_rss_bytes: int | None = None
    versions: dict[str, str] = field(default_factory=dict)  # of Python and the requirements


def as_array(value: Any) -> np.ndarray:
    """Return a numpy array of a numpy array or a torch tensor (any device; bfloat16 becomes float32, exactly)."""
    if hasattr(value, "detach"):  # a torch tensor; torch itself is not imported here
        value = value.detach().cpu()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    return np.ascontiguousarray(value)


def whole_numbers(value: Any, below: int, what: str) -> np.ndarray:
    """Return ``value`` as uint8, exactly; ``PackageError`` unless all are whole numbers from 0 to ``below`` - 1."""
    array = as_array(value)
    found = array.astype(np.int64)
    if not np.array_equal(found, array):
        raise PackageError(f"{what} are not whole numbers: hand weights of another grid over with keep_dense")
    if found.size and (int(found.min()) < 0 or int(found.max()) >= below):
        raise PackageError(f"{what} run from {found.min()} to {found.max()}, the grid has 0 to {below - 1}")
    return found.astype(np.uint8)


def exact_half(value: Any, what: str) -> np.ndarray:
    """Return ``value`` as float16, exactly; ``PackageError`` where a value is not finite or would be rounded."""
    array = as_array(value)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise PackageError(f"{what} are NaN, infinite or beyond float16")
    if not np.array_equal(half.astype(np.float64), array.astype(np.float64)):
        raise PackageError(f"{what} are not exact in float16: round them in the method file and say so with note()")
    return half


@dataclass(frozen=True, kw_only=True)
class JobOutcome(Outcome):
    """Content of the ``outcome.json`` of a finished job."""

    method: str
    bits: int
    group_size: int
    seed: int
    params: dict[str, Any]
    package: str


@dataclass
class PackageJob:
    """One row for a package to quantize: the model, the text, the width; and where its result goes."""

    model_dir: Path  # Hugging Face checkpoint folder, float32 safetensors, never GGUF
    tokens: np.ndarray  # int64 [count, length], the calibration windows of our own methods
    bits: int
    group_size: int  # requested by the study (128)
    group_sizes: dict[str, int]  # linear -> what our own methods use there (64 where 128 does not divide)
    linears: dict[str, tuple[int, int]]  # name -> (d_out, d_in), forward order
    work_dir: Path  # the package writes its own files here
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    out_dir: Path | None = None  # where linears are written; None: the parent of work_dir
    kept: dict[str, str] = field(default_factory=dict)  # linear -> "affine" or "dense"
    others: dict[str, np.ndarray] = field(default_factory=dict)  # checkpoint name -> tensor
    native_files: list[str] = field(default_factory=list)  # relative to work_dir
    notes: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Return the folder of the result."""
        return self.work_dir.parent if self.out_dir is None else self.out_dir

    def keep(self, name: str, codes: Any, scales: Any, zeros: Any, group_size: int) -> None:
        """Write a linear on our affine grid: weight = (codes - zeros) * scale, group of column j = j // group_size.

        codes: whole numbers [d_out, d_in] from 0 to 2^bits - 1, in the checkpoint's order of columns; scales: [d_out,
        n_groups], exact in float16; zeros: integer zero-points [d_out, n_groups], 0 to 2^bits - 1. Raises
        ``PackageError`` for an unknown linear, one that was kept before, and values that this grid cannot hold exactly.
        """
        d_out, d_in = self._shape(name)
        if group_size < 1 or d_in % group_size:
            raise PackageError(f"{name}: groups of {group_size} do not divide rows of {d_in}")
        tensors = {
            "codes": whole_numbers(codes, 2**self.bits, f"{name}: codes"),
            "scales": exact_half(scales, f"{name}: scales"),
            "zeros": whole_numbers(zeros, 2**self.bits, f"{name}: zero-points"),
        }
        groups = (d_out, d_in // group_size)
        for part, shape in (("codes", (d_out, d_in)), ("scales", groups), ("zeros", groups)):
            if tensors[part].shape != shape:
                raise PackageError(f"{name}: {part} are {list(tensors[part].shape)}, expected {list(shape)}")
        self._write(name, tensors, {"kind": AFFINE, "group_size": group_size, "bits": self.bits})

    def keep_weight(self, name: str, weight: Any, scales: Any, zeros: Any) -> None:
        """Write a linear on our affine grid by its de-quantized weight [d_out, d_in]; scales are rounded to float16.

        scales, zeros: [d_out, n_groups], before any rounding, for groups as in ``group_sizes``. Raises ``PackageError``
        as ``keep`` does and ``PackedFormatError`` for a weight that is not on that grid.
        """
        grid = as_array(scales)
        codes = codes_on_grid(as_array(weight), grid, as_array(zeros), self.bits, name=name)
        self.keep(name, codes, grid.astype(np.float16), zeros, self.group_sizes[name])

    def keep_dense(self, name: str, weight: Any, packed_bytes: int) -> None:
        """Write a linear on a grid that ours cannot hold: its de-quantized weight, and its packed bytes.

        weight: float16 or float32 [d_out, d_in]; packed_bytes: codes, scales and zero-points, as the package
        stores them. Raises ``PackageError`` as ``keep`` does.
        """
        shape = self._shape(name)
        array = as_array(weight)
        if array.dtype not in (np.float16, np.float32):
            raise PackageError(f"{name}: the weight is {array.dtype}, give float16 or float32")
        if array.shape != shape:
            raise PackageError(f"{name}: the weight is {list(array.shape)}, expected {list(shape)}")
        if not np.isfinite(array).all():
            raise PackageError(f"{name}: the weight holds NaN or infinite values")
        if packed_bytes < 1 or packed_bytes > array.nbytes:
            raise PackageError(f"{name}: {packed_bytes} packed bytes for a weight of {array.nbytes}: count them again")
        self._write(name, {"weight": array}, {"kind": DENSE, "packed_bytes": int(packed_bytes)})

    def keep_other(self, name: str, tensor: Any) -> None:
        """Keep another checkpoint tensor that the method changed (a norm, a bias), by its checkpoint name."""
        if name.removesuffix(".weight") in self.linears:
            raise PackageError(f"{name} is a linear's weight: hand it over with keep or keep_dense")
        array = as_array(tensor).astype(np.float32)
        if not np.isfinite(array).all():
            raise PackageError(f"{name} holds NaN or infinite values")
        self.others[name] = array

    def native(self, *paths: str | Path) -> None:
        """Name the package's own files below ``work_dir``; their sizes become the row's ``bytes_native``."""
        for path in map(Path, paths):
            whole = path if path.is_absolute() else self.work_dir / path
            if not whole.is_file() or not whole.resolve().is_relative_to(self.work_dir.resolve()):
                raise PackageError(f"no file {path} below {self.work_dir}: write the package's files to job.work_dir")
            relative = str(whole.resolve().relative_to(self.work_dir.resolve()))
            if relative not in self.native_files:
                self.native_files.append(relative)

    def note(self, text: str) -> None:
        """Add a note for readers of the row, for instance "0.7.1 + CPU shim"; it is printed under the table."""
        if text and text not in self.notes:
            self.notes.append(text)

    def finish(self) -> None:
        """Write the tensors that are no linears; ``PackageError`` where a linear is missing."""
        missing = [name for name in self.linears if name not in self.kept]
        if missing:
            raise PackageError(f"{len(missing)} linears were never handed over, {missing[0]} among them")
        if self.others:
            save_arrays(self.folder / OTHERS, self.others)

    def _shape(self, name: str) -> tuple[int, int]:
        if name not in self.linears:
            raise PackageError(f"the model has no linear '{name}' (the first is '{next(iter(self.linears), '')}')")
        if name in self.kept:
            raise PackageError(f"{name} was handed over twice")
        return self.linears[name]

    def _write(self, name: str, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
        save_arrays(self.folder / LINEARS / f"{name}.safetensors", tensors, about)
        self.kept[name] = str(about["kind"])


@dataclass(frozen=True)
class AboutLinear:
    """Fields that the metadata of a package's linear must have."""

    kind: Literal["affine", "dense"]
    group_size: int | None = None  # of an affine one
    bits: int | None = None
    packed_bytes: int | None = None  # of a dense one

    def __post_init__(self) -> None:
        """Refuse a linear without what its kind needs."""
        needed = [self.packed_bytes] if self.kind == DENSE else [self.group_size, self.bits]
        if not all(each is not None and each > 0 for each in needed):
            raise ValueError(f"a linear of kind '{self.kind}' lacks its sizes")


def read_linear(folder: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return a linear's tensors and description: ``kind``, then ``group_size`` and ``bits``, or ``packed_bytes``."""
    path = folder / LINEARS / f"{name}.safetensors"
    with open_tensors(path, "linear of a package", framework="np", again="run the package again") as tensors:
        tensors.about_as(AboutLinear)
        return dict(tensors), tensors.about


def one_sentence(text: str, limit: int = 300) -> str:
    """Return the last line with text, without control characters, folders of this machine and excess length."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    last = re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", ".../", lines[-1] if lines else "no message")
    last = "".join(sign for sign in last if sign.isprintable()).strip().rstrip(".;")
    return (last if len(last) <= limit else last[: limit - 1] + "…").replace(";", ",")
