"""Work of a job in operations and bytes, and its cost on a device in seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ramp.core.tensors import REMEMBERED_BYTES
from ramp.plan.devices import CORE_FLOPS, DISK_BANDWIDTH, NETWORK_BANDWIDTH, Device

GIB = 2**30

PROCESS_BYTES = 400 << 20
"""Host memory of a stage on a processor before its work: imports. Measured on the smoke study."""

GPU_PROCESS_BYTES = 3 * GIB
"""The same of a process that uses a card: CUDA's libraries."""

CONTEXT_BYTES = GIB
"""Memory of a card that the driver's context and torch's allocator hold beside tensors."""

HASH_BANDWIDTH = 0.5e9
"""Bytes a second of a checksum by one core, with the reading."""


def compared_again(size: float) -> float:
    """Return the seconds of one core that a file of this size costs a reader that is not its first: none, if large."""
    return size / HASH_BANDWIDTH if size <= REMEMBERED_BYTES else 0.0


FILLED = 0.92
"""Share of a card's memory that a job may plan with."""


@dataclass(frozen=True)
class Work:
    """The work of one job. Bytes of a card are those of a stage that runs block by block where it can."""

    float32: float = 0.0  # operations of float32 products
    half: float = 0.0  # operations of products in the study's dtype, where that has 16 bits
    moved: float = 0.0  # bytes that elementwise operations read and write
    steps: float = 0.0  # small dependent operations: a column of GPTQ, a kernel of a forward pass
    core_s: float = 0.0  # seconds of one core beside the device, at the speed of ``devices.CORE_FLOPS``
    spread: bool = False  # whether that part is shared by the job's threads
    disk: float = 0.0  # bytes read from and written to the disk
    download: float = 0.0  # bytes fetched
    uses_gpu: bool = False  # whether it runs on the study's device
    device_bytes: float = 0.0  # least memory of a card that it needs
    wanted_bytes: float = 0.0  # what it takes beside that where there is room
    host_bytes: float = 0.0  # memory of the host beside the process's own; mapped files do not count
    core_bytes: float = 0.0  # more of it where the job runs on a processor
    output_bytes: float = 0.0  # bytes that it leaves on the disk
    passing_bytes: float = 0.0  # those of them that go once their readers are done, unless the study keeps all
    scratch_bytes: float = 0.0  # bytes on the disk while it runs
    fixed_s: float | None = None  # seconds before its work; None: the device's
    basis: str = "arithmetic"  # "measured" where a constant time was measured


@dataclass(frozen=True)
class Cost:
    """Cost of a job on a device, in seconds and bytes."""

    seconds: float
    on_device: bool  # whether it runs on the study's device
    gpu: bool  # whether that is a card, which it occupies
    device_bytes: float  # peak on the card; 0 on a processor
    least_bytes: float  # the least card memory that it runs with
    host_bytes: float
    output_bytes: float
    passing_bytes: float
    scratch_bytes: float
    download_bytes: float
    basis: str


def cost(work: Work, device: Device, core: Device, threads: int = 1) -> Cost:
    """Return what a job takes on ``device``, or on ``threads`` cores like ``core`` where it does not use the device.

    Nothing overlaps: products, elementwise passes, the cores' part and the disk follow each other.
    """
    on_gpu = work.uses_gpu and device.is_gpu
    unit = device if on_gpu else core
    share = 1 if on_gpu else threads
    products = work.float32 / unit.float32 + work.half / unit.half
    seconds = products / share + work.moved / unit.bandwidth + work.steps * unit.step_s
    seconds += work.core_s * CORE_FLOPS / core.float32 / (threads if work.spread else 1)
    seconds += work.disk / DISK_BANDWIDTH + work.download / NETWORK_BANDWIDTH
    seconds += unit.start_s if work.fixed_s is None else work.fixed_s
    least = work.device_bytes + CONTEXT_BYTES if on_gpu else 0.0
    return Cost(
        seconds=seconds,
        on_device=work.uses_gpu,
        gpu=on_gpu,
        device_bytes=min(least + work.wanted_bytes, max(least, FILLED * device.memory)) if on_gpu else 0.0,
        least_bytes=least,
        host_bytes=work.host_bytes + (GPU_PROCESS_BYTES if on_gpu else PROCESS_BYTES + work.core_bytes),
        output_bytes=work.output_bytes,
        passing_bytes=work.passing_bytes,
        scratch_bytes=work.scratch_bytes,
        download_bytes=work.download,
        basis=work.basis,
    )
