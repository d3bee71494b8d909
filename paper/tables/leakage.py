"""Table of the leakage meter: rows that saw text near the held-out text, beside the study's own."""

from __future__ import annotations

from paper.banks import spread_note
from paper.intervals import reading
from paper.leakage import TEXTS, leak_lines
from paper.naming import model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels
from paper.tables.unjudged import OWN_ROW
from paper.tuning import runs_over


def leakage_table(study: Study) -> Table:
    """Return a line per row and cell, the study's own row before its leaks."""
    lines = leak_lines(study)
    rows = [
        Row(
            {
                "model": model_title(line.model),
                "row": line.title,
                "calibration": TEXTS[line.calibration],
                "search": TEXTS.get(line.search, "none"),
                "kl": line.kl,
                "ratio": line.ratio.estimate if line.ratio else None,
                "reading": reading(line.ratio.estimate, 1.0) if line.ratio else OWN_ROW if line.own else "",
            },
            f"{line.model} {line.title}",
        )
        for line in lines
    ]
    columns = (
        *labels("model", "row"),
        Column("calibration", "calibrated on", align="left", width="1fr"),
        Column("search", "searched on", align="left", width="1fr"),
        Column("kl", "KL", "nats", digits=4),
        Column("ratio", "over the study's own", digits=3),
        Column("reading", "", align="left"),
    )
    floors = [floor for model in dict.fromkeys(line.model for line in lines) if (floor := spread_note(study, model))]
    runs = sorted({runs_over(line.ratio) for line in lines if line.ratio})
    words = caption("leakage", *floors, runs="; or ".join(runs) or "no row")
    return Table("leakage", columns=columns, rows=tuple(rows), **words).filled()
