"""Refusal of a study that does not fit the machine: one sentence before the first job."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ramp.assets.hub_download import RepositoryCache
from ramp.assets.registry import HubSource
from ramp.core.errors import RampError
from ramp.plan.devices import Device, machine_memory
from ramp.plan.dry_run import Job
from ramp.plan.job_costs import JobCosts
from ramp.plan.table import GB
from ramp.plan.timeline import run
from ramp.plan.work import FILLED, Cost
from ramp.study.model_shape import SizeUnknown

CLOSE = 2.0
"""Plans hold within a factor of two: what has less room than twice the plan is warned of."""


class DoesNotFit(RampError):
    """A study that cannot run on this machine: its largest job, what it needs and what is there."""


@dataclass(frozen=True)
class Room:
    """Room of a machine, in bytes: memory of one card (0: none), of the host, free on the disk of the results, and on
    that of the hub's cache where it is another."""

    card: float
    host: float
    disk: float
    cache: float = float("inf")

    @classmethod
    def of(cls, device: Device, results: str | Path, *, jobs_run_here: bool) -> Room:
        """Return what this machine has; of another, where a scheduler sends the jobs, the disk alone is known."""
        disk = float(free_disk(results))
        if not jobs_run_here:
            return cls(0.0, float("inf"), disk)
        return cls(float(device.memory) if device.is_gpu else 0.0, float(machine_memory()), disk)


def _there(folder: str | Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    return place


def free_disk(folder: str | Path) -> int:
    """Return the bytes free on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(_there(folder)).free


def same_disk(one: str | Path, other: str | Path) -> bool:
    """Return whether two folders lie, or will lie, on one disk."""
    return _there(one).stat().st_dev == _there(other).stat().st_dev


def hub_cache() -> Path:
    """Return the folder into which the hub's client downloads (``HF_HOME``)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


@dataclass(frozen=True)
class Downloads:
    """Files of the hub that jobs are to fetch into its client's cache, in bytes."""

    wanted: float = 0.0
    there: float = 0.0  # of them, in the cache already: of this study's first start, or of another program

    @classmethod
    def of(cls, costs: JobCosts, jobs: Iterable[tuple[Job, Cost]]) -> Downloads:
        """Return what the jobs that fetch from the hub bring."""
        wanted = there = 0.0
        for job, cost in jobs:
            sources = costs.facts.plan.registry.get(job.wildcards["asset"]).sources if job.rule == "fetch" else ()
            for source in [each for each in sources if isinstance(each, HubSource) and cost.download_bytes][:1]:
                blobs = RepositoryCache(source, source.revision).folder / "blobs"
                found = sum(file.stat().st_size for file in blobs.glob("*"))
                wanted, there = wanted + cost.download_bytes, there + min(found, cost.download_bytes)
        return cls(wanted, there)


def refuse(
    jobs: Iterable[tuple[str, Cost]], disk_bytes: float, room: Room, *, study: str, cache_bytes: float = 0.0
) -> list[str]:
    """Return warnings of what comes close; raise ``DoesNotFit`` for what cannot fit.

    jobs: (name, cost) of those that are to run. disk_bytes: the most that lies on the disk at once. cache_bytes: what
    is to be downloaded to another disk.
    """
    found = list(jobs)
    warnings = []
    for what, needs, there, cure in (
        (
            "of GPU memory",
            _largest(found, "least_bytes"),
            FILLED * room.card,
            "take a larger card or fewer models",
        ),
        ("of host memory", _largest(found, "host_bytes"), room.host, "run it on a machine with more"),
        ("of disk", (f"study '{study}'", disk_bytes), room.disk, "free some, or set results to another disk"),
        (
            "for downloads in the hub's cache",
            (f"study '{study}'", cache_bytes),
            room.cache,
            "free some, or set HF_HOME to another disk",
        ),
    ):
        name, wanted = needs
        if what == "of GPU memory" and not room.card:
            continue
        if wanted > there:
            raise DoesNotFit(
                f"{name} needs {wanted / GB:.1f} GB {what} by the plan, and {there / GB:.1f} GB are there: {cure} "
                "(python -m ramp plan has the table)"
            )
        if CLOSE * wanted > there and what != "of GPU memory":
            warnings.append(f"{name} needs some {wanted / GB:.1f} GB {what}, and {there / GB:.1f} GB are there")
    return warnings


def check_room(costs: JobCosts, jobs: Sequence[Job], *, jobs_run_here: bool) -> list[str]:
    """Return warnings on the jobs that are to run; raise ``DoesNotFit`` before the first of them where one cannot.

    Jobs of a model whose sizes are not known yet are left out.
    """
    study = costs.facts.plan.study
    known: list[tuple[Job, Cost]] = []
    for job in jobs:
        with contextlib.suppress(SizeUnknown):
            known.append((job, costs.cost(job.rule, job.wildcards)))
    time = run(
        [job for job, _ in known], [cost for _, cost in known], results=study.results, held=study.keep == "all",
        cores=os.cpu_count() or 1, threads=study.threads, gpus=1,
    )  # fmt: skip
    named = [(job.name, cost) for job, cost in known]
    room = Room.of(costs.device, study.results, jobs_run_here=jobs_run_here)
    downloads = Downloads.of(costs, known)
    if not jobs_run_here or same_disk(study.results, hub_cache()):
        return refuse(named, time.peak_bytes - downloads.there, room, study=study.study)
    room = replace(room, cache=float(free_disk(hub_cache())))
    left = downloads.wanted - downloads.there
    return refuse(named, time.peak_bytes - downloads.wanted, room, study=study.study, cache_bytes=left)


def _largest(jobs: Sequence[tuple[str, Cost]], kind: str) -> tuple[str, float]:
    """Return name and bytes of the job that needs most of one kind of memory."""
    if not jobs:
        return "nothing", 0.0
    name, cost = max(jobs, key=lambda pair: getattr(pair[1], kind))
    return name, float(getattr(cost, kind))
