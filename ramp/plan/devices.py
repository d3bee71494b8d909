"""Speed and memory of devices: a table of cards from their data sheets, and the processor at hand.

Peaks are the vendors' dense figures without sparsity; ``SUSTAINED`` is the share of them that a stage reaches. No card
was measured by this project: what is planned for one is arithmetic. A core's rate is measured where a plan is made for
the processor at hand, and ``CORE_FLOPS`` elsewhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ramp.core.errors import RampError
from ramp.core.nearest_name import nearest

SUSTAINED = 0.6
"""Share of a card's peak that large products reach."""

CORE_FLOPS = 43e9
"""Float32 operations a second of one core in reproducible arithmetic (AVX2). Measured on SmolLM2-135M, a busy two-core
AMD: calibration, folds, sensitivities, references and rows within 10 % of it."""

CORE_BANDWIDTH = 8e9
"""Bytes a second that one core reads and writes."""

CORE_STEP_S, CORE_START_S = 12e-6, 0.8
"""Seconds of one small operation of torch from Python, and of a forked job before its first: measured on the smoke
study."""

DISK_BANDWIDTH = 1e9
"""Bytes a second of a disk; an ordinary NVMe disk gives two to seven times as much."""

NETWORK_BANDWIDTH = 50e6
"""Bytes a second of a download."""


class UnknownDevice(RampError):
    """A device that the table lacks."""


@dataclass(frozen=True)
class Device:
    """A device: its memory, and what it computes and moves in a second."""

    name: str
    memory: int  # bytes; of a processor the machine's
    float32: float  # operations a second, sustained: TF32 is off
    half: float  # operations a second in bfloat16, sustained
    bandwidth: float  # bytes a second between its memory and its units, sustained
    step_s: float  # seconds of one small dependent operation
    start_s: float  # seconds before a stage's first operation: imports, and on a card its context
    basis: str = "arithmetic"  # or "measured": the rate was measured here

    @property
    def is_gpu(self) -> bool:
        """Return whether it is a card."""
        return self.name != "cpu"


def card(name: str, gib: float, float32: float, half: float, terabytes: float) -> Device:
    """Return a card by its data sheet: GiB, peaks in TFLOP/s, TB/s.

    A small operation costs 8 microseconds: a kernel's launch from Python.
    """
    return Device(
        name=name, memory=int(gib * 2**30), float32=SUSTAINED * float32 * 1e12, half=SUSTAINED * half * 1e12,
        bandwidth=SUSTAINED * terabytes * 1e12, step_s=8e-6, start_s=12.0,
    )  # fmt: skip


CARDS = {
    each.name: each
    for each in (
        card("h200", 139.0, 67.0, 989.0, 4.8),  # NVIDIA H200 SXM data sheet
        card("h100", 79.0, 67.0, 989.0, 3.35),  # NVIDIA H100 SXM data sheet
        card("a100-80", 79.0, 19.5, 312.0, 2.0),  # NVIDIA A100 80GB SXM data sheet
        card("a100-40", 39.4, 19.5, 312.0, 1.555),  # NVIDIA A100 40GB SXM data sheet
        card("l40s", 44.5, 91.6, 362.0, 0.864),  # NVIDIA L40S data sheet
        card("rtx-4090", 23.5, 82.6, 165.2, 1.008),  # Ada architecture whitepaper, float32 accumulation
        card("rtx-3090", 23.5, 35.6, 71.0, 0.936),  # GA102 whitepaper, float32 accumulation
        card("rtx-4080", 15.6, 48.7, 97.5, 0.717),  # Ada architecture whitepaper
    )
}
"""Cards by name; memory is what the driver leaves of it."""

PLACED = "a100-80"
"""The card that jobs on a cluster are planned for, where none is at hand."""


CGROUP = Path("/sys/fs/cgroup/memory.max")
"""What a container may use; ``max`` where it has no limit."""


def machine_memory() -> int:
    """Return the bytes of memory that this machine has, or that the container allows."""
    import psutil

    limit = CGROUP.read_text().strip() if CGROUP.is_file() else "max"
    total = int(psutil.virtual_memory().total)
    return min(total, int(limit)) if limit.isdigit() else total


def processor(flops: float = CORE_FLOPS, basis: str = "arithmetic") -> Device:
    """Return one core of this machine's processor."""
    return Device(
        name="cpu", memory=machine_memory(), float32=flops, half=flops, bandwidth=CORE_BANDWIDTH,
        step_s=CORE_STEP_S, start_s=CORE_START_S, basis=basis,
    )  # fmt: skip


@cache
def core_flops() -> float:
    """Measure a core: float32 operations a second of a product of 1,024 x 1,024, the best of fifteen.

    The product is numpy's, as in reproducible arithmetic; whole stages reach 0.55 of it (43 of 79 GFLOP/s, measured
    together with ``CORE_FLOPS``).
    """
    import numpy as np

    size = 1024
    a = np.ones((size, size), dtype=np.float32)
    times = []
    for _ in range(15):
        began = time.thread_time()
        a @ a
        times.append(time.thread_time() - began)
    return 0.55 * 2 * size**3 / max(min(times), 1e-9)


@cache
def installed_card() -> tuple[str, int] | None:
    """Return name and memory in bytes of this machine's first GPU, by nvidia-smi; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        name, memory = done.stdout.splitlines()[0].rsplit(",", 1)
        return name.strip(), int(memory) * 2**20
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None


def known_as(name: str, memory: int) -> Device:
    """Return the card of the table that a driver's name and memory mean; else one like ``PLACED`` with that memory."""
    words = name.lower().replace("-", " ")
    alike = [each for each in CARDS.values() if re.sub(r"-[48]0$", "", each.name).replace("-", " ") in words]
    if alike:
        return replace(min(alike, key=lambda each: abs(each.memory - memory)), memory=memory)
    return replace(CARDS[PLACED], name=words.replace(" ", "-"), memory=memory)


def find_device(name: str) -> Device:
    """Return a device by its name in the table; ``UnknownDevice`` lists them."""
    if name == "cpu":
        return processor()
    if name not in CARDS:
        known = ["cpu", *CARDS]
        raise UnknownDevice(f"no device '{name}' in the plan's table{nearest(name, known)} (known: {', '.join(known)})")
    return CARDS[name]


def device_at_hand(asked: str) -> Device:
    """Return the device that a study's ``device`` means on this machine.

    ``cuda`` where no GPU is: ``PLACED``, since a scheduler has to find one.
    """
    found = None if asked == "cpu" else installed_card()
    if found is not None:
        return known_as(*found)
    return CARDS[PLACED] if asked.startswith("cuda") else processor()
