"""Origin of a number: versions of the software that computed it, the machine, the memory that it took."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "lm_eval", "gguf", "libgguf")
"""Packages whose version can change a measured number."""


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return name -> version of Python and of those of ``packages`` that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Return the processor's marketing name from Linux, else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


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
