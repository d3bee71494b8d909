"""Table of searches: cost of each, and gain over its start on selection text."""

from __future__ import annotations

from paper.banks import spread_notes
from paper.naming import method_title, model_title
from paper.study import Entry, Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels


def cost_table(study: Study) -> Table:
    """Return the rows with a search (and the knapsack, whose proxy costs tokens), on every model."""
    entries = [
        entry
        for entry in study.entries
        if entry.stage == "final" and entry.grid == "affine" and entry.mean("search_tokens")
    ]
    columns = (
        *labels("model", "method"),
        Column("budget", "budget", "bits"),
        Column("evals", "evaluations", digits=0),
        Column("tokens", "forward tokens", "thousands", digits=1, scale=1e-3),
        Column("wall", "wall time", "s", digits=1),
        Column("start", "KL start", "selection, nats", digits=4),
        Column("end", "KL reported", "selection, nats", digits=4),
        Column("search", "KL reported", "search, nats", digits=4),
        *labels("projected"),
    )
    rows = tuple(Row(_cells(entry), entry.model) for entry in entries)
    floors = spread_notes(study, dict.fromkeys(entry.model for entry in entries))
    return Table("cost", columns=columns, rows=rows, **caption("cost", *floors, seeds=study.seeds(entries))).filled()


def _cells(entry: Entry) -> dict:
    projected = [bool(each) for each in entry.records["projected"].dropna()] if "projected" in entry.records else []
    return {
        "model": model_title(entry.model),
        "method": method_title(entry.method),
        "budget": f"{entry.budget_bits:g}",
        "evals": entry.mean("search_evals"),
        "tokens": entry.mean("search_tokens"),
        "wall": entry.mean("search_wall_s"),
        "start": entry.mean("kl_start_selection"),
        "end": entry.mean("kl_selection"),
        "search": entry.mean("kl_search"),
        "projected": ("yes" if any(projected) else "no") if len(projected) else None,
    }
