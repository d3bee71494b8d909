"""Table of the commonsense tasks: accuracy per task, the mean, and its ratio to the float model, item by item."""

from __future__ import annotations

from paper.comparisons import task_ratio
from paper.naming import bits_title, model_title, task_title
from paper.study import Entry, Study
from paper.tables.captions import caption
from paper.tables.main import in_order, label
from paper.tables.model import Column, Row, Table, labels


def tasks_table(study: Study, model: str) -> Table:
    """Return every scored row of ``model``."""
    entries = [
        e for e in in_order(study.find(model, grid=None, stage=None)) if not e.restored and _mean(study, e) is not None
    ]
    reference = study.float_entry(model)
    columns = (
        *labels("row"),
        *(Column(f"acc_{task}", task_title(task), "acc % ± se") for task in study.tasks),
        Column("mean", "mean", "acc %", digits=1, scale=100),
        Column("kept", "kept of float", "%", digits=1, scale=100),
    )
    scored = [e.scored(f"acc_{task}") for e in entries for task in study.tasks]
    sizes = {count for e in entries for task in study.tasks if (count := e.mean(f"n_items_{task}"))}
    counts = " or ".join(f"{int(count):,}" for count in sorted(sizes)) or "an unrecorded number of"
    words = caption("tasks", model=model_title(model), counts=counts, seeds=study.seeds(scored))
    rows = tuple(Row(_cells(study, entry, reference)) for entry in entries)
    return Table(f"tasks_{model}", columns=columns, rows=rows, **words).filled()


def _mean(study: Study, entry: Entry) -> float | None:
    found = [entry.mean(f"acc_{task}") for task in study.tasks]
    values = [value for value in found if value is not None]
    return sum(values) / len(values) if values else None


def _cells(study: Study, entry: Entry, reference: Entry | None) -> dict:
    bits = f", {bits_title(entry.budget_bits)} bits" if entry.is_quantized else ""
    cells: dict = {"row": label(study, entry) + bits, "mean": _mean(study, entry)}
    for task in study.tasks:
        value, error = entry.mean(f"acc_{task}"), entry.mean(f"acc_se_{task}")
        if value is not None:
            cells[f"acc_{task}"] = f"{100 * value:.1f}" + (f" ± {100 * error:.1f}" if error is not None else "")
    if reference and entry.method != "float" and (found := task_ratio(study, entry, reference)):
        cells["kept"] = found[0]
    return cells
