"""Table of evaluations and tokens that every learner needs to reach the knapsack's KL, and PPO's."""

from __future__ import annotations

import numpy as np

from paper.equal_quality import LEARNERS, RIVAL, EqualQuality, Reach
from paper.naming import method_title, model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels
from ramp.methods.names import BAR


def equal_quality_table(study: Study) -> Table:
    """Return a line per model, budget, level and learner."""
    quality = EqualQuality(study)
    rows = []
    for model in quality.league.models:
        for budget in quality.league.budgets(model):
            for reference in (BAR, RIVAL):
                level = quality.level(model, budget, reference)
                for name in LEARNERS if level is not None else ():
                    reach = quality.reach(model, budget, name, level) if level is not None else None
                    if reach is None:
                        continue
                    of = quality.league.title(reference) + (", worst seed" if reference == RIVAL else "")
                    where = {"model": model_title(model), "budget": f"{budget:g}", "of": of, "level": level}
                    cells = {"allocator": quality.league.title(name), **_cells(reach)}
                    rows.append(Row({**where, **cells}, f"{model} {budget:g} {reference}"))
    columns = (
        *labels("model"),
        Column("budget", "budget", "bits"),
        Column("of", "KL of", align="left"),
        Column("level", "KL", "search, nats", digits=4),
        Column("allocator", "learner", align="left", width="1fr"),
        Column("reached", "seeds there", align="left"),
        *labels("evaluations"),
        Column("tokens", "tokens", "thousands", align="left"),
    )
    words = caption("equal_quality", bar=method_title(BAR), rival=method_title(RIVAL))
    return Table("equal_quality", columns=columns, rows=tuple(rows), **words)


def _cells(reach: Reach) -> dict[str, str]:
    evals = spread(reach.evals, f"never in {reach.allowed:,}", f"> {reach.allowed:,}")
    return {
        "reached": f"{reach.reached} of {len(reach.evals)}",
        "evaluations": f"{evals}, by its start" if reach.by_start else evals,
        "tokens": spread(reach.tokens / 1000, "never", "never"),
    }


def spread(values: np.ndarray, never: str, beyond: str) -> str:
    """Return median and range over seeds; ``never`` for a median, ``beyond`` for an end that is infinite."""
    middle = np.sort(values)[(len(values) - 1) // 2 : len(values) // 2 + 1]  # one seed, or the two in the middle
    median = float(middle.mean()) if np.isfinite(middle).all() else np.inf
    words = f"{median:,.0f}" if np.isfinite(median) else never
    ends = [f"{end:,.0f}" if np.isfinite(end) else beyond for end in (values.min(), values.max())]
    return words if ends[0] == ends[1] else f"{words} [{ends[0]}, {ends[1]}]"
