"""Plan a study before anything is downloaded: ``python -m ramp plan --configfile config/paper.yaml --device h200``.

Jobs are those of a Snakemake dry run; what each takes is arithmetic on the sizes of its model.
``--check`` compares the plan with the logs of a run instead. ``--csv`` writes plan_paper.csv, with ``--check``
plan_check.csv (``ramp.records.schema``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import require_file, write_text
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.core.output_path import OutputFile

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.plan.beside_run import check
    from ramp.plan.devices import Device, core_flops, device_at_hand, find_device, processor
    from ramp.plan.dry_run import Job, planned_jobs
    from ramp.plan.job_costs import JobCosts
    from ramp.plan.quantities import Facts
    from ramp.plan.render import as_text, check_rows, check_text, on_page, plan_rows
    from ramp.plan.table import StudyPlan, plan_study
    from ramp.records.table import table, write_table
    from ramp.study.study_file import PROJECT, configuration, single_keys, study_plan

NAMED_CORES = 16
"""Cores beside a card that is named and not at hand."""


def chosen_device(name: str | None, asked: str) -> Device:
    """Return the named device, or the one at hand; a core at hand is measured."""
    found = device_at_hand(asked) if name is None else find_device(name)
    return found if found.is_gpu else processor(core_flops(), "measured")


def plan_files(
    files: Sequence[Path], keys: dict[str, object], device: str | None, cores: int | None = None, gpus: int = 1
) -> tuple[StudyPlan, JobCosts, list[Job]]:
    """Return the plan of a study, the costs behind it and its jobs."""
    study = study_plan(configuration(files, keys))
    costs = JobCosts.on(Facts(study), chosen_device(device, study.study.device))
    snakefile = PROJECT / "Snakefile"
    jobs = planned_jobs(snakefile, files, keys)
    left = planned_jobs(snakefile, files, keys, everything=False) if Path(study.study.results).is_dir() else None
    if cores is None:
        cores = NAMED_CORES if device not in (None, "cpu") else os.cpu_count() or 1
    return plan_study(costs, jobs, left, cores=cores, gpus=gpus), costs, jobs


def main(argv: Sequence[str] | None = None) -> int:
    """Print the plan of a study, or its comparison with a run; see the module's docstring."""
    parser = cli.Parser(description="Plan a study: jobs, hours, memory, disk and downloads by stage.")
    option = parser.add_argument
    option("--configfile", type=Path, nargs="+", default=[], help="as Snakemake's; none: the embedded study")
    option("--config", nargs="+", default=[], metavar="KEY=VALUE", help="as Snakemake's: single keys")
    option("--device", help="a card of the plan's table, or cpu; default: the device at hand")
    option("--results", help="another results folder: what is there already, and with --check its logs")
    option("--cores", type=int, help="cores of the machine; default: this one's, 16 beside a card that is named")
    option("--gpus", type=int, default=1, help="GPUs of the machine, as in Snakemake's --resources gpu=N")
    option("--csv", type=OutputFile, help="CSV file to write")
    option("--page", type=Path, help="Markdown file with marks for this device, between which the plan is written")
    option("--check", action="store_true", help="compare the plan with the logs of a run of the study")
    args = parser.parse_args(argv)
    if args.cores is not None and args.cores < 1:
        raise RampError(f"--cores {args.cores}: give at least one")
    if args.gpus < 1:
        raise RampError(f"--gpus {args.gpus}: give at least one, or plan with --device cpu")
    keys = single_keys(args.config) | ({"results": args.results} if args.results else {})
    plan, costs, jobs = plan_files(args.configfile, keys, args.device, args.cores, args.gpus)
    if args.check:
        checked = check(costs, jobs)
        print(check_text(checked))
    else:
        print(as_text(plan))
    if args.page:
        write_text(args.page, on_page(require_file(args.page, "page").read_text(encoding="utf-8"), plan))
    if args.csv:
        name, rows = ("plan_check", check_rows(checked)) if args.check else ("plan_paper", plan_rows(plan))
        write_table(args.csv, rows, table(name))
        log.info("written to %s", args.csv)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))
