"""What each search cost, and what it gained over its start on the text that selects."""

from __future__ import annotations

from paper.naming import method_title, model_title
from paper.study import Entry, Study
from paper.tables.model import Column, Row, Table


def cost_table(study: Study) -> Table:
    """Rows with a search (and the knapsack, whose proxy costs tokens), on every model."""
    entries = [
        entry
        for entry in study.entries
        if entry.stage == "final" and entry.grid == "affine" and entry.mean("search_tokens")
    ]
    columns = (
        Column("model", "model", align="left"),
        Column("method", "method", align="left"),
        Column("budget", "budget", "bits"),
        Column("evals", "evaluations", digits=0),
        Column("tokens", "forward tokens", "thousands", digits=1),
        Column("wall", "wall time", "s", digits=1),
        Column("start", "KL start", "selection, nats", digits=4),
        Column("end", "KL reported", "selection, nats", digits=4),
        Column("search", "KL reported", "search, nats", digits=4),
        Column("projected", "projected", align="left"),
    )
    return Table(
        name="cost",
        title=(
            f"Cost of each search and its gain over its warm start ({study.seeds(entries)}; wall times are "
            "means over seeds, whatever else the machine did)."
        ),
        columns=columns,
        rows=tuple(Row(_cells(entry), entry.model) for entry in entries),
        footnotes=(
            "Forward tokens count a backward pass twice and include the Fisher sensitivities wherever a method uses "
            "them. Selection text chooses the final allocation and is neither search nor held-out text. Projected: "
            "the budget had to be enforced after the search.",
        ),
        absent="No row of the records spent anything on a search.",
    ).filled()


def _cells(entry: Entry) -> dict:
    projected = [bool(each) for each in entry.records["projected"].dropna()] if "projected" in entry.records else []
    tokens = entry.mean("search_tokens")
    return {
        "model": model_title(entry.model),
        "method": method_title(entry.method),
        "budget": f"{entry.budget_bits:g}",
        "evals": entry.mean("search_evals"),
        "tokens": None if tokens is None else tokens / 1000,
        "wall": entry.mean("search_wall_s"),
        "start": entry.mean("kl_start_selection"),
        "end": entry.mean("kl_selection"),
        "search": entry.mean("kl_search"),
        "projected": ("yes" if any(projected) else "no") if len(projected) else None,
    }
