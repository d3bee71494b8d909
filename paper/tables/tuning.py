"""Tables of tuned scales: every row before and after, and mixed rows beside uniform ones, both tuned alike."""

from __future__ import annotations

from paper.intervals import reading
from paper.naming import model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels
from paper.tuning import Tuned, ratio, runs_over


def tuning_table(study: Study) -> Table:
    """Return a line per row: its KL before and after tuning."""
    rows, runs = [], set()
    for row in Tuned(study).rows:
        found = ratio(row.after, row.before)
        assert found is not None  # a row has the same banks before and after
        runs |= {runs_over(found)}
        cells = {
            "model": model_title(row.model),
            "row": row.title,
            "banks": str(found.banks),
            "before": row.kl(tuned=False),
            "after": row.kl(tuned=True),
            "ratio": found.estimate,
            "reading": found.reading if found.banks > 1 else reading(found.estimate, 1.0),
            "tokens": row.tokens,
            "time": row.wall_s,
        }
        rows.append(Row(cells, f"{row.model} {row.mixed}"))
    columns = (
        *labels("model", "row"),
        Column("banks", "banks"),
        Column("before", "KL before", "nats", digits=4),
        Column("after", "KL after", "nats", digits=4),
        Column("ratio", "after / before", digits=3),
        Column("reading", "", align="left"),
        Column("tokens", "text", "1,000 tokens", digits=0, scale=1e-3),
        Column("time", "time", "min", digits=1, scale=1 / 60),
    )
    words = caption("tuning", runs="; or ".join(sorted(runs)) or "no row")
    return Table("tuning", columns=columns, rows=tuple(rows), **words).filled()


def tuning_pairs_table(study: Study) -> Table:
    """Return a line per mixed row and uniform row of at least its bytes."""
    rows, runs = [], set()
    for pair in Tuned(study).pairs:
        runs |= {runs_over(pair.before)}
        cells = {
            "model": model_title(pair.mixed.model),
            "mixed": pair.mixed.title,
            "uniform": pair.uniform.title,
            "bytes": pair.mixed.bytes_linear / pair.uniform.bytes_linear - 1,
            "before": pair.before.estimate,
            "after": pair.after.estimate,
            "change": pair.change,
        }
        rows.append(Row(cells, f"{pair.mixed.model} {pair.mixed.title}"))
    columns = (
        *labels("model", "mixed", "uniform"),
        Column("bytes", "bytes", "%", digits=1, scale=100, signed=True),
        Column("before", "KL ratio", "before", digits=3),
        Column("after", "KL ratio", "after", digits=3),
        Column("change", "after / before", digits=3),
    )
    words = caption("tuning_pairs", runs="; or ".join(sorted(runs)) or "no pair")
    return Table("tuning_pairs", columns=columns, rows=tuple(rows), **words).filled()
