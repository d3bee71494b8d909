"""A plan beside the logs of a run: the last line of every stage's log has its seconds and its processor time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ramp.core.errors import RampError
from ramp.core.job_log import job_cost
from ramp.plan.dry_run import Job
from ramp.plan.job_costs import JobCosts
from ramp.plan.table import LAST, STAGES, stage_of


@dataclass(frozen=True)
class Checked:
    """One stage: what was planned for the jobs whose logs are there, and what they took."""

    stage: str
    jobs: int
    hours_planned: float
    hours_run: float

    @property
    def ratio(self) -> float | None:
        """Planned over run; None where the jobs took no time."""
        return self.hours_planned / self.hours_run if self.hours_run else None


def ran(log: Path, *, on_gpu: bool) -> float | None:
    """Return the seconds that a job took by its log; None where it has not ended.

    On a processor its processor time, which does not grow where others use the machine; on a card the clock's.
    """
    cost = job_cost(log)
    return None if cost is None else cost.wall_s if on_gpu else cost.cpu_s


def check(costs: JobCosts, jobs: Sequence[Job]) -> list[Checked]:
    """Return every stage whose jobs left logs, and their total; ``RampError`` where no job did."""
    planned: dict[str, list[tuple[float, float]]] = {}
    for job in jobs:
        cost = costs.cost(job.rule, job.wildcards)
        seconds = ran(Path(job.log), on_gpu=cost.gpu) if job.log else None
        if seconds is not None:
            planned.setdefault(stage_of(job.rule), []).append((cost.seconds, seconds))
    if not planned:
        raise RampError(
            f"no finished job has a log below {costs.facts.plan.study.results}/logs: run the study, then compare"
        )
    found = [_sum(stage, planned[stage]) for stage in (*STAGES, LAST) if stage in planned]
    return [*found, _sum("total", [pair for pairs in planned.values() for pair in pairs])]


def _sum(stage: str, pairs: Sequence[tuple[float, float]]) -> Checked:
    return Checked(stage, len(pairs), sum(each for each, _ in pairs) / 3600, sum(each for _, each in pairs) / 3600)
