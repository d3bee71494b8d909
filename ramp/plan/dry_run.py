"""The jobs of a study, as Snakemake itself plans them: the events of a dry run, with rule, wildcards and files.

Rules decide which jobs there are; a list made from the configuration alone could leave them. Each planned job is one
event ``job_info`` of Snakemake's logging interface, which its logger plugins read.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramp.core.errors import RampError

WITHOUT_WORK = ("all",)
"""Rules without work of their own."""


@dataclass(frozen=True)
class Job:
    """One planned job."""

    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    log: str
    priority: int = 0

    @property
    def name(self) -> str:
        """Rule and wildcards, for messages."""
        return " ".join([self.rule, *self.wildcards.values()])


def jobs_of(dag: Any) -> list[Job]:
    """Return the jobs that are to run in a Snakemake run that has been planned (``workflow.dag``), by name."""
    return in_order(
        Job(
            job.rule.name,
            dict(job.wildcards_dict),
            tuple(map(str, job.input)),
            tuple(map(str, job.output)),
            next(iter(map(str, job.log)), ""),
            job.priority,
        )
        for job in dag.needrun_jobs()
        if job.rule.name not in WITHOUT_WORK
    )


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Return jobs by rule and wildcards: Snakemake lists them otherwise in every process."""
    return sorted(jobs, key=lambda job: (job.rule, sorted(job.wildcards.items()), job.outputs))


class _Jobs(logging.Handler):
    """A handler that keeps the planned jobs, in the order in which Snakemake lists them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, Job] = {}
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a job, or an error's message."""
        event: Any = getattr(record, "event", None)
        if str(event) == "job_info":
            about: Any = record
            if about.rule_name not in WITHOUT_WORK:
                logs = list(about.log or [])
                self.found[about.jobid] = Job(
                    about.rule_name,
                    dict(about.wildcards or {}),
                    tuple(about.input or ()),
                    tuple(about.output or ()),
                    logs[0] if logs else "",
                    about.priority if isinstance(about.priority, int) else 0,
                )
        elif record.levelno >= logging.ERROR:
            self.errors.append(record.getMessage())


def planned_jobs(
    snakefile: Path, configfiles: Sequence[Path], config: Mapping[str, Any], *, everything: bool = True
) -> list[Job]:
    """Return the jobs of a study, by name.

    Args:
        snakefile: the project's.
        configfiles, config: as Snakemake's ``--configfile`` and ``--config``.
        everything: also what is there already; else only what is left to do.

    Raises:
        RampError: Snakemake refuses the configuration, with its sentence.
    """
    from snakemake import logging as snakemake_logging
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    jobs = _Jobs()
    silenced = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(silenced),
            SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api,
        ):
            logger = snakemake_logging.logger
            for handler in list(logger.handlers):
                logger.removeHandler(handler)
            logger.addHandler(jobs)
            logger.propagate = False
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=list(configfiles), config=dict(config)),
                snakefile=snakefile,
            )
            workflow.dag(DAGSettings(forceall=everything)).execute_workflow(executor="dryrun")
    except Exception as error:  # Snakemake raises classes of its own, and what a Snakefile raises
        raise RampError(_sentence(error, jobs.errors)) from None
    finally:
        snakemake_logging.logger.removeHandler(jobs)
    return in_order(jobs.found.values())


def _sentence(error: Exception, logged: Sequence[str]) -> str:
    """Return what an exception of Snakemake says."""
    text = " ".join(str(error).split()) or " ".join(" ".join(logged).split()) or type(error).__name__
    return f"Snakemake cannot plan the study: {text}"
