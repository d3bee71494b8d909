"""The claims table: what the paper says, what was measured here, and the verdict."""

from __future__ import annotations

from typing import Any

from paper.intervals import Estimate
from paper.naming import model_title
from paper.study import Study
from paper.tables.model import Column, Row, Table


def claims_table(study: Study, claims: list[dict[str, Any]]) -> Table:
    """One line per claim of claims.yaml (``claims``), with what claims.json (``study.claims``) says of it."""
    judged = {entry["id"]: entry for entry in study.claims or []}
    columns = (
        Column("id", "id", align="left"),
        Column("text", "claim", align="left", width="1.2fr"),
        Column("paper", "paper's figure", align="left", width="0.8fr"),
        Column("measure", "measured here", align="left", width="1.3fr"),
        Column("value", "value", "[95 %]", align="left", digits=3),
        Column("verdict", "verdict", align="left"),
        Column("scale", "scale or reason", align="left", width="1fr"),
    )
    rows = tuple(Row(_cells(claim, judged[claim["id"]])) for claim in claims if claim["id"] in judged)
    return Table(
        name="claims",
        title=(
            f"The paper's claims and what this study ({study.name}; source model {model_title(study.source)}, "
            f"{study.limits(study.find(study.source), study.primary_text)}, "
            f"{study.seeds(study.find(study.source))}) says of them."
        ),
        columns=columns,
        rows=rows,
        footnotes=(
            "[A] abstract; [D] digests of the full text.",
            "Replicated: the whole 95 % interval lies on the claim's side "
            "of its limit; not replicated: wholly on the other side; inconclusive: across it; partly: some comparisons "
            "hold and others fail. An analogue on another model supports or weakens a claim; it is not a test of it.",
        ),
        absent="The claims were not judged in this run: paper.claims writes claims.json.",
    )


def _cells(claim: dict[str, Any], entry: dict[str, Any]) -> dict:
    tested = entry["verdict"] != "not tested"
    low, high = entry["margin"] or (None, None)
    return {
        "id": claim["id"],
        "text": claim["text"],
        "paper": claim["paper_value"],
        "measure": entry["measure"] if tested else None,
        "value": Estimate(entry["value"], low, high) if entry["value"] is not None else None,
        "verdict": entry["verdict"],
        "scale": entry["scale"].removeprefix("not testable in this study: "),  # the verdict beside it says as much
    }
