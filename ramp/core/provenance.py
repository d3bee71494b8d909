"""Origin of a number: versions of the software that computed it, and the machine, as plain strings."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "lm_eval", "gguf", "libgguf")
"""Packages whose version can change a measured number."""


def versions() -> dict[str, str]:
    """Return name -> version of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
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
