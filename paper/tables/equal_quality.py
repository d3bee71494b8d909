"""Evaluations and tokens to equal quality: every learner on its way to the knapsack's KL, and to PPO's."""

from __future__ import annotations

import numpy as np

from paper.equal_quality import LEARNERS, RIVAL, EqualQuality, Reach
from paper.naming import BAR, method_title, model_title
from paper.study import Study
from paper.tables.model import Column, Row, Table


def equal_quality_table(study: Study) -> Table:
    """One line per model, budget, level and learner."""
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
    return Table(
        name="equal_quality",
        title="Evaluations to equal quality: when each learner's best allocation within the budget first has the KL on "
        f"search text that the {method_title(BAR)} has, and that {method_title(RIVAL)} ends with. Median over seeds, "
        "and their range.",
        columns=(
            Column("model", "model", align="left"),
            Column("budget", "budget", "bits"),
            Column("of", "KL of", align="left"),
            Column("level", "KL", "search, nats", digits=4),
            Column("allocator", "learner", align="left", width="1fr"),
            Column("reached", "seeds there", align="left"),
            Column("evals", "evaluations", align="left"),
            Column("tokens", "tokens", "thousands", align="left"),
        ),
        rows=tuple(rows),
        footnotes=(
            "Never: not within the evaluations allowed; no number stands in for it. By its start: the warm start, the "
            "knapsack itself, has that KL already. Read from curves thinned to log-spaced moments: upper bounds. "
            "Tokens: forward tokens up to there (backward = 2), sensitivities included, selection left out.",
        )
        if rows
        else (),
        absent="No league with learners is in these records (snakemake league).",
    )


def _cells(reach: Reach) -> dict[str, str]:
    evals = spread(reach.evals, f"never in {reach.allowed:,}", f"> {reach.allowed:,}")
    return {
        "reached": f"{reach.reached} of {len(reach.evals)}",
        "evals": f"{evals}, by its start" if reach.by_start else evals,
        "tokens": spread(reach.tokens / 1000, "never", "never"),
    }


def spread(values: np.ndarray, never: str, beyond: str) -> str:
    """Median and range over seeds; ``never`` for a median, ``beyond`` for an end that is infinite."""
    middle = np.sort(values)[(len(values) - 1) // 2 : len(values) // 2 + 1]  # one seed, or the two in the middle
    median = float(middle.mean()) if np.isfinite(middle).all() else np.inf
    said = f"{median:,.0f}" if np.isfinite(median) else never
    ends = [f"{end:,.0f}" if np.isfinite(end) else beyond for end in (values.min(), values.max())]
    return said if ends[0] == ends[1] else f"{said} [{ends[0]}, {ends[1]}]"
