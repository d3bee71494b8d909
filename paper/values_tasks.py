"""Numbers of the paper's text on commonsense tasks."""

from __future__ import annotations

from collections.abc import Iterator

from paper.naming import task_title
from paper.study import Study
from paper.words import listed, shown


def task_values(study: Study) -> Iterator[tuple[str, str]]:
    """Yield ``tasks.{items,at_chance}`` and the tasks that were scored."""
    items = study.frame("items")
    if items is None:
        return
    yield "tasks", ", ".join(task_title(task) for task in study.tasks)
    counts = {e.mean(f"n_items_{task}") for e in study.find(study.source) for task in study.tasks} - {None}
    if counts:
        yield "tasks.items", " or ".join(shown(count, 0) for count in sorted(c for c in counts if c))
    if at_chance := [task_title(task) for task in study.tasks if _is_at_chance(study, task)]:
        yield "tasks.at_chance", listed(at_chance)


CHANCE = {
    "winogrande": 1 / 2, "piqa": 1 / 2, "boolq": 1 / 2,
    "hellaswag": 1 / 4, "openbookqa": 1 / 4, "arc_easy": 1 / 4, "arc_challenge": 1 / 4,
}  # fmt: skip
"""Accuracy of a guess, by task; a few items of ARC have three or five answers."""


def _is_at_chance(study: Study, task: str) -> bool:
    """Return whether the float model's accuracy on a task is not above that of a guess by 1.96 standard errors."""
    entry = study.float_entry(study.source)
    found = [entry.mean(f"{column}_{task}") if entry else None for column in ("acc", "acc_se")]
    if found[0] is None or found[1] is None or task not in CHANCE:
        return False
    return found[0] - 1.96 * found[1] <= CHANCE[task]
