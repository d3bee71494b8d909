"""The plan as a table: a line for every stage, totals, and the smallest card on which each stage fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ramp.plan.devices import CARDS, Device
from ramp.plan.dry_run import Job
from ramp.plan.job_costs import JobCosts
from ramp.plan.timeline import Timeline, run
from ramp.plan.work import FILLED, Cost

GB = 1e9

STAGES = {
    "assets": "fetch texts tasks settings",
    "models": "model train",
    "environments": "environment",
    "calibration": "calibration",
    "folds": "fold",
    "banks": "bank",
    "sensitivities": "sensitivity proxy",
    "searches": "search learn",
    "transfer": "transfer",
    "quantizing": "quantize quantize_shared float_row track skipped",
    "packages": "package package_row",
    "references": "reference scored_text",
    "evaluation": "evaluate noise_run entropy_collect",
    "tasks": "tasks_scored",
    "tuning": "tune",
    "export": "halo_export halo_float halo_row",
    "export checks": "halo_check",
    "static mixes": "static_mix",
    "files beside mixes": "gguf_mixes",
    "league": "acceptance league_run",
    "optimum": "enumeration optimum_run",
    "folds' ablation": "fold_reference fold_run",
}
"""Stages in the order of the pipeline, with their rules; all other rules write the records and the paper."""

LAST = "records and paper"
STAGE_OF = {rule: stage for stage, rules in STAGES.items() for rule in rules.split()}


@dataclass(frozen=True)
class Line:
    """One stage, or all of them: jobs, those that are done, hours of all jobs together, peaks of one, bytes of all."""

    stage: str
    jobs: int
    done: int
    hours: float
    gpu_gb: float
    host_gb: float
    disk_gb: float
    download_gb: float
    card: str  # the smallest on which it fits; empty where it needs none
    basis: str


@dataclass(frozen=True)
class StudyPlan:
    """A planned study: its stages, and how it runs on one machine."""

    study: str
    device: Device
    lines: tuple[Line, ...]
    timeline: Timeline
    cores: int
    gpus: int
    costs: tuple[Cost, ...]
    jobs: tuple[Job, ...]

    @property
    def total(self) -> Line:
        """The sums of all stages; the disk is the most that lies there at once."""
        largest = max(self.lines, key=lambda line: _memory_of(line.card), default=None)
        return Line(
            stage="total",
            jobs=sum(line.jobs for line in self.lines),
            done=sum(line.done for line in self.lines),
            hours=self.timeline.seconds / 3600,
            gpu_gb=max((line.gpu_gb for line in self.lines), default=0),
            host_gb=max((line.host_gb for line in self.lines), default=0),
            disk_gb=self.timeline.peak_bytes / GB,
            download_gb=sum(line.download_gb for line in self.lines),
            card=largest.card if largest else "",
            basis=_together({line.basis for line in self.lines}),
        )


def stage_of(rule: str) -> str:
    """Return the stage of a rule."""
    return STAGE_OF.get(rule, LAST)


def plan_study(
    costs: JobCosts, jobs: Sequence[Job], left: Sequence[Job] | None = None, *, cores: int, gpus: int = 1
) -> StudyPlan:
    """Return the plan of a study's jobs; ``left`` are those that are still to be done, None: all."""
    study = costs.facts.plan.study
    todo = Counter(stage_of(job.rule) for job in (jobs if left is None else left))
    each = [costs.cost(job.rule, job.wildcards) for job in jobs]
    lines = []
    for stage in (*STAGES, LAST):
        found = [cost for job, cost in zip(jobs, each, strict=True) if stage_of(job.rule) == stage]
        if found:
            lines.append(line_of(stage, found, len(found) - todo[stage]))
    timeline = run(
        jobs, each, results=study.results, held=study.keep == "all", cores=cores, threads=study.threads, gpus=gpus
    )
    return StudyPlan(study.study, costs.device, tuple(lines), timeline, cores, gpus, tuple(each), tuple(jobs))


def line_of(stage: str, costs: Sequence[Cost], done: int) -> Line:
    """Return a stage's line from what its jobs take."""
    return Line(
        stage=stage,
        jobs=len(costs),
        done=done,
        hours=sum(cost.seconds for cost in costs) / 3600,
        gpu_gb=max(cost.device_bytes for cost in costs) / GB,
        host_gb=max(cost.host_bytes for cost in costs) / GB,
        disk_gb=sum(cost.output_bytes for cost in costs) / GB,
        download_gb=sum(cost.download_bytes for cost in costs) / GB,
        card=smallest_card(max(cost.least_bytes for cost in costs)),
        basis=_together({cost.basis for cost in costs}),
    )


def smallest_card(least_bytes: float) -> str:
    """Return the card of the table with the least memory that holds a stage; empty for one that needs none."""
    if not least_bytes:
        return ""
    fitting = [card for card in CARDS.values() if least_bytes <= FILLED * card.memory]
    return min(fitting, key=lambda card: card.memory).name if fitting else "none"


def _memory_of(card: str) -> float:
    return 0 if not card else CARDS[card].memory if card in CARDS else float("inf")


def _together(kinds: set[str]) -> str:
    """Return one word for how numbers came about: "measured" where all were."""
    return "measured" if kinds == {"measured"} else "arithmetic"
