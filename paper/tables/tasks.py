"""Commonsense tasks: accuracy per task, the mean, and the mean relative to the float model, item by item."""

from __future__ import annotations

from paper.comparisons import task_ratio
from paper.naming import bits_title, model_title, task_title
from paper.study import Entry, Study
from paper.tables.main import in_order, label
from paper.tables.model import Column, Row, Table


def tasks_table(study: Study, model: str) -> Table:
    """Every scored row of ``model``."""
    entries = [
        e for e in in_order(study.find(model, grid=None, stage=None)) if not e.restored and _mean(study, e) is not None
    ]
    reference = study.float_entry(model)
    columns = [Column("row", "row", align="left")]
    for task in study.tasks:
        columns.append(Column(f"acc_{task}", task_title(task), "acc % ± se", align="right"))
    columns += [
        Column("mean", "mean", "acc %", digits=1, scale=100),
        Column("kept", "kept of float", "%", digits=1, scale=100),
    ]
    scored = [e.scored(f"acc_{task}") for e in entries for task in study.tasks]
    counts = {count for e in entries for task in study.tasks if (count := e.mean(f"n_items_{task}"))}
    said = " or ".join(f"{int(count):,}" for count in sorted(counts))
    return Table(
        name=f"tasks_{model}",
        title=(
            f"{model_title(model)}: commonsense tasks by lm-evaluation-harness, zero-shot, "
            f"{said or 'an unrecorded number of'} rows per task; {study.seeds(scored)}."
        ),
        columns=tuple(columns),
        rows=tuple(Row(_cells(study, entry, reference)) for entry in entries),
        footnotes=(
            "Kept: mean accuracy over the tasks relative to the float model; items are resampled within each task and "
            "paired with the float model's answers (95 % interval).",
        ),
        absent="No row of this model was scored on the commonsense tasks in this run.",
    ).filled()


def _mean(study: Study, entry: Entry) -> float | None:
    found = [entry.mean(f"acc_{task}") for task in study.tasks]
    values = [value for value in found if value is not None]
    return sum(values) / len(values) if values else None


def _cells(study: Study, entry: Entry, reference: Entry | None) -> dict:
    bits = "" if entry.method in ("float", "released") else f", {bits_title(entry.budget_bits)} bits"
    cells: dict = {"row": label(study, entry) + bits, "mean": _mean(study, entry)}
    for task in study.tasks:
        value, error = entry.mean(f"acc_{task}"), entry.mean(f"acc_se_{task}")
        if value is not None:
            cells[f"acc_{task}"] = f"{100 * value:.1f}" + (f" ± {100 * error:.1f}" if error is not None else "")
    if reference and entry.method != "float" and (found := task_ratio(study, entry, reference)):
        cells["kept"] = found[0]
    return cells
