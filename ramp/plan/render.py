"""A plan in words: the table of ``python -m ramp plan``, and its rows as a table of the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ramp.core.marked_page import with_part
from ramp.plan.beside_run import Checked
from ramp.plan.table import GB, Line, StudyPlan

HEAD = ("stage", "jobs", "done", "hours", "GPU GB", "host GB", "disk GB", "download GB", "smallest card", "basis")


ALIGNED = ("left", *["right"] * 7, "left", "left")


def cells(line: Line) -> list[str]:
    """Return a line's cells; memory that is not needed is left empty."""
    sizes = [line.gpu_gb, line.host_gb, line.disk_gb, line.download_gb]
    return [line.stage, str(line.jobs), str(line.done), f"{line.hours:.2f}", *map(_size, sizes), line.card, line.basis]


def _size(gigabytes: float) -> str:
    return f"{gigabytes:.1f}" if gigabytes >= 0.05 else ""


def markdown(plan: StudyPlan) -> str:
    """Return the plan as a Markdown table, without what is done already."""
    from tabulate import tabulate

    done = HEAD.index("done")
    rows = [[cell for place, cell in enumerate(cells(line)) if place != done] for line in (*plan.lines, plan.total)]
    head = [name for name in HEAD if name != "done"]
    return str(tabulate(rows, head, tablefmt="pipe", disable_numparse=True, colalign=[*ALIGNED[:1], *ALIGNED[2:]]))


def marks(device: str) -> tuple[str, str]:
    """Return the comments before and behind a device's plan on a page."""
    return f"<!-- plan on {device}: begin (written by python -m ramp plan) -->", f"<!-- plan on {device}: end -->"


def on_page(page: str, plan: StudyPlan) -> str:
    """Return a page with the plan between the marks of its device; ``RampError`` where it has none."""
    return with_part(page, *marks(plan.device.name), f"{markdown(plan)}\n\n{below_table(plan)}")


def below_table(plan: StudyPlan) -> str:
    """Return the sentences below the table."""
    time, device = plan.timeline, plan.device
    count = "one" if plan.gpus == 1 else str(plan.gpus)
    parts = [f"{time.seconds / 3600:.1f} h from start to end on {count} {device.name} with {plan.cores} cores"]
    if device.is_gpu:
        parts.append(f"{time.gpu_seconds / 3600:.1f} h of the card, {time.core_seconds / 3600:.1f} h of jobs beside it")
    else:
        parts.append(
            f"{time.core_seconds / 3600:.1f} h of jobs, a core at {device.float32 / 1e9:.0f} GFLOP/s ({device.basis})"
        )
    parts.append(f"{time.peak_bytes / GB:.0f} GB on the disk at most, {time.left_bytes / GB:.0f} GB at the end")
    return (
        "; ".join(parts) + ".\nHours are sums over a stage's jobs, in the last line from start to end; memory is the "
        "largest job's; disk is what a stage writes, in the last line the most that lies there at once."
    )


def as_text(plan: StudyPlan) -> str:
    """Return the plan for a terminal."""
    from tabulate import tabulate

    rows = [cells(line) for line in (*plan.lines, plan.total)]
    table = tabulate(rows, HEAD, disable_numparse=True, colalign=ALIGNED)
    return f"{table}\n\n{below_table(plan)}"


def plan_rows(plan: StudyPlan) -> list[dict[str, Any]]:
    """Return the rows of plan_paper.csv."""
    return [
        {
            "stage": line.stage, "jobs": line.jobs, "hours": round(line.hours, 3), "gpu_gb": round(line.gpu_gb, 1),
            "host_gb": round(line.host_gb, 1), "disk_gb": round(line.disk_gb, 1),
            "download_gb": round(line.download_gb, 1), "basis": line.basis,
        }
        for line in (*plan.lines, plan.total)
    ]  # fmt: skip


def check_rows(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """Return the rows of plan_check.csv."""
    return [
        {
            "stage": each.stage, "hours_planned": round(each.hours_planned, 5), "hours_run": round(each.hours_run, 5),
            "ratio": None if each.ratio is None else round(each.ratio, 3),
        }
        for each in checked
    ]  # fmt: skip


def check_text(checked: Sequence[Checked]) -> str:
    """Return the comparison for a terminal."""
    from tabulate import tabulate

    rows = [
        [each.stage, each.jobs, f"{each.hours_planned:.4f}", f"{each.hours_run:.4f}",
         "" if each.ratio is None else f"{each.ratio:.2f}"]
        for each in checked
    ]  # fmt: skip
    return str(tabulate(rows, ("stage", "jobs", "hours planned", "hours run", "ratio"), disable_numparse=True))
