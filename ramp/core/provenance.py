"""Origin of a number: versions of the software that computed it, the machine, the memory that it took."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "lm_eval", "gguf", "libgguf", "cyllama",
)  # fmt: skip
"""Packages whose version can change a measured number; wheels of numpy and scipy bring an OpenBLAS each."""

FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
"""Instruction sets for which the libraries have kernels of their own: their sums are rounded in another order."""

LIMITS = (
    "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "GLIBC_TUNABLES", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
)  # fmt: skip
"""Environment variables that choose the libraries' kernels, or how their sums are divided among threads."""


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return name -> version of Python and of those of ``packages`` that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpuinfo(field: str) -> str:
    """Return a field of the first processor from Linux; empty where there is none."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(field):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def processor() -> str:
    """Return the processor's marketing name from Linux, else its architecture."""
    return cpuinfo("model name") or platform.machine()


@dataclass(frozen=True)
class Machine:
    """Properties of a machine that can change the last digits of a number."""

    processor: str  # marketing name
    architecture: str  # x86_64, aarch64 ...
    instruction_set: str  # of torch's kernels in this process: DEFAULT, AVX2, AVX512
    flags: tuple[str, ...]  # instruction sets of the processor, those in FLAGS
    limits: dict[str, str]  # environment variables in force, those in LIMITS
    threads: int  # that share one operation in this process
    cores: int  # processors that the system shows
    libc: str  # C library and its version
    arithmetic: str = ""  # reproducible or fast; empty in files older than this field

    @classmethod
    def here(cls) -> Machine:
        """Return this machine, as this process uses it."""
        import torch

        from ramp.core.arithmetic import in_force, threads_in_use

        known = set(cpuinfo("flags").split())
        return cls(
            processor=processor(),
            architecture=platform.machine(),
            instruction_set=torch.backends.cpu.get_cpu_capability(),
            flags=tuple(name for name in FLAGS if name in known),
            limits={name: os.environ[name] for name in LIMITS if name in os.environ},
            threads=threads_in_use(),
            cores=os.cpu_count() or 1,
            libc=" ".join(platform.libc_ver()).strip(),
            arithmetic=in_force(),
        )

    def __str__(self) -> str:
        """Return one line."""
        flags = " ".join(self.flags) or "no vector instructions that matter"
        limits = ", ".join(f"{name}={value}" for name, value in sorted(self.limits.items())) or "no limits set"
        arithmetic = f"{self.arithmetic} arithmetic, " if self.arithmetic else ""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)} on {self.cores}"
        return (
            f"{self.processor} ({self.architecture}: {flags}), instruction set in use {self.instruction_set}, "
            f"{arithmetic}{threads}, {self.libc}, {limits}"
        )


def hardware(device: str = "cpu") -> str:
    """Return the processor's name, and the GPU's where ``device`` is one."""
    if not device.startswith("cuda"):
        return processor()
    import torch

    return f"{torch.cuda.get_device_name(device)} ({processor()})"


def commit() -> str:
    """Return the commit of this checkout, with ``-dirty`` if tracked files changed; empty outside git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def peak_rss_bytes() -> int:
    """Return the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts KiB


def peak_gpu_bytes(device: torch.device) -> int | None:
    """Return the most memory that torch held on the GPU so far; None without one."""
    import torch

    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
