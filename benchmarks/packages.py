"""One model quantized by a package's file in baselines/, as tensors: with the job and runner of a study's row."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import BenchmarkError, Sample
from benchmarks.ours import Quantized, processor_s
from ramp.methods.kinds import Package as PackageMethod
from ramp.methods.loader import load_method, parse_params
from ramp.methods.package_job import AFFINE, OTHERS, JobSettings, read_linear
from ramp.models.folder import ModelFolder
from ramp.packages.prepare_job import run, write_job


@dataclass(frozen=True)
class Package:
    """A method file and the interpreter of its environment."""

    method_file: Path
    python: Path
    method: PackageMethod

    @classmethod
    def read(cls, method_file: Path, python: Path) -> Package:
        """Open a package; ``BenchmarkError`` where the file is no package's or the interpreter is not there."""
        method = load_method(method_file)
        if not isinstance(method, PackageMethod):
            raise BenchmarkError(f"{method_file} registers a {type(method).__name__}, no Package: nothing to compare")
        if not python.is_file():
            raise BenchmarkError(f"no interpreter at {python}: make the environment of {method.name} first")
        return cls(method_file, python.absolute(), method)

    @property
    def title(self) -> str:
        """Return package and version, from the pins: the first requirement that is no torch."""
        pins = [each for each in self.method.requirements if not each.startswith("torch==")]
        return pins[0].replace("==", " ")

    def grid(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return ``params`` for a package whose file has no choice of grid: then it is asymmetric."""
        if "sym" in self.method.params.model_fields:
            return params
        if params.get("sym"):
            raise BenchmarkError(f"{self.method_file.name} has no symmetric grids")
        return {key: value for key, value in params.items() if key != "sym"}

    @property
    def module(self) -> str:
        """Return the package's import name."""
        return self.title.partition(" ")[0].replace("-", "_").lower()


def import_sample(package: Package) -> Sample:
    """Measure importing the package alone, in a process of its own: no part of quantizing."""
    cpu, wall = processor_s(), time.perf_counter()
    line = [str(package.python), "-c", "import importlib, sys; importlib.import_module(sys.argv[1])", package.module]
    subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return Sample(processor_s() - cpu, time.perf_counter() - wall)


def dense(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Tensor:
    """Return one linear of the package as float32 [d_out, d_in]: (codes - zeros) * scales, or its weight."""
    if about["kind"] != AFFINE:
        return torch.from_numpy(tensors["weight"]).float()
    codes = torch.from_numpy(tensors["codes"]).float()
    scales, zeros = (torch.from_numpy(tensors[part]).float().unsqueeze(-1) for part in ("scales", "zeros"))
    grouped = codes.view(codes.shape[0], -1, int(about["group_size"]))
    return ((grouped - zeros) * scales).view(codes.shape)


def quantize_package(
    package: Package, model_dir: Path, windows: Tensor, bits: int, group_size: int, params: Mapping[str, Any], *,
    threads: int, seed: int,
) -> tuple[Quantized, str]:  # fmt: skip
    """Return (the quantized model, the package's note); ``BenchmarkError`` with the package's own reason if it failed.

    windows: int64 [count, length]. Times are of the whole process, imports included (``import_sample`` has those).
    """
    from safetensors.torch import load_file

    given = parse_params(package.method, dict(params)).model_dump(mode="json")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_job(folder, model_dir, windows, JobSettings(bits, group_size, seed, threads, "cpu", given))
        cpu, wall = processor_s(), time.perf_counter()
        found = run(str(package.python), package.method_file, folder, threads)
        sample = Sample(processor_s() - cpu, time.perf_counter() - wall)
        if not found.ok:
            raise BenchmarkError(f"the package could not do it: {found.reason}")
        state = {
            f"{linear.name}.weight": dense(*read_linear(folder, linear.name))
            for linear in ModelFolder(model_dir).linears
        }
        if (folder / OTHERS).is_file():
            state |= load_file(folder / OTHERS)
    return Quantized(state, sample), found.note
