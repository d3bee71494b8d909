"""A study on one machine, job after job: when it ends, and the most that lies on the disk at once.

Jobs start as Snakemake starts them: what is ready, by priority and then in the order of the plan, while there are a
card or cores for it. A file that passes goes when its last reader has ended.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ramp.plan.dry_run import Job
from ramp.plan.work import Cost
from ramp.study.temporary_files import passes


@dataclass(frozen=True)
class Timeline:
    """Course of a run: seconds to its end, seconds that a card is busy, bytes on the disk at most and at its end."""

    seconds: float
    gpu_seconds: float
    core_seconds: float
    peak_bytes: float
    left_bytes: float


def readers_of(jobs: Sequence[Job]) -> dict[str, list[int]]:
    """Return file -> numbers of the jobs that read it."""
    found: dict[str, list[int]] = {}
    for number, job in enumerate(jobs):
        for file in set(job.inputs):
            found.setdefault(file, []).append(number)
    return found


def prerequisites(jobs: Sequence[Job]) -> list[set[int]]:
    """Return for every job the numbers of the jobs whose outputs it reads."""
    makers = {file: number for number, job in enumerate(jobs) for file in job.outputs}
    return [{makers[file] for file in job.inputs if file in makers} - {n} for n, job in enumerate(jobs)]


def run(
    jobs: Sequence[Job], costs: Sequence[Cost], *, results: str, held: bool, cores: int, threads: int, gpus: int = 1
) -> Timeline:
    """Return how the jobs run on ``cores`` cores and ``gpus`` cards.

    held: whether passing files stay. threads: cores that a job of a model takes.
    """
    needs = prerequisites(jobs)
    followers: list[list[int]] = [[] for _ in jobs]
    for number, before in enumerate(needs):
        for each in before:
            followers[each].append(number)
    reading = _readers_of_passing(jobs, results, held)
    waiting = [len(before) for before in needs]
    ready = [(-job.priority, number) for number, job in enumerate(jobs) if not waiting[number]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, free_cores, free_cards, disk, peak = 0.0, cores, gpus, 0.0, 0.0
    while ready or running:
        skipped = []
        while ready:
            entry = heapq.heappop(ready)
            cost = costs[entry[1]]
            wanted = min(threads, cores)
            if free_cores < wanted or (cost.gpu and not free_cards):
                skipped.append(entry)
                continue
            free_cores -= wanted
            free_cards -= cost.gpu
            disk += cost.output_bytes + cost.scratch_bytes
            peak = max(peak, disk)
            heapq.heappush(running, (now + cost.seconds, entry[1]))
        for entry in skipped:
            heapq.heappush(ready, entry)
        now, number = heapq.heappop(running)
        cost = costs[number]
        free_cores += min(threads, cores)
        free_cards += cost.gpu
        disk -= cost.scratch_bytes
        for maker, left in reading.items():
            if number in left:
                left.discard(number)
                disk -= 0 if left else costs[maker].passing_bytes
        for follower in followers[number]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, (-jobs[follower].priority, follower))
    busy = sum(cost.seconds for cost in costs if cost.gpu)
    return Timeline(now, busy, sum(cost.seconds for cost in costs) - busy, peak, disk)


def _readers_of_passing(jobs: Sequence[Job], results: str, held: bool) -> Mapping[int, set[int]]:
    """Return job -> the jobs that read its passing outputs; none where such files stay."""
    if held:
        return {}
    readers, found = readers_of(jobs), {}
    for number, job in enumerate(jobs):
        files = [file for file in job.outputs if passes(file.removeprefix(f"{results}/"))]
        if files:
            found[number] = {reader for file in files for reader in readers.get(file, [])}
    return found
