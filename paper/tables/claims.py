"""The claims table: the paper's claims, what was measured here, and the verdict."""

from __future__ import annotations

import re
from typing import Any

from paper.naming import model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels
from ramp.evaluation.bootstrap import Estimate
from ramp.records.schema import NO_EVIDENCE, NOT_TESTED


def claims_table(study: Study, claims: list[dict[str, Any]]) -> Table:
    """Return a line per claim of claims.yaml (``claims``), with its entry of claims.json (``study.claims``)."""
    judged = {entry["id"]: entry for entry in study.claims or []}
    columns = (
        *labels("id"),
        Column("text", "claim", align="left", width="1.2fr"),
        Column("paper", "paper's figure", align="left", width="0.8fr"),
        Column("measure", "measured here", align="left", width="1.3fr"),
        Column("value", "value", "[95 %]", align="left", digits=3),
        *labels("verdict"),
        Column("scale", "scale or reason", align="left", width="1fr"),
    )
    rows = tuple(Row(_cells(claim, judged[claim["id"]])) for claim in claims if claim["id"] in judged)
    entries = study.find(study.source)
    words = caption(
        "claims",
        study=study.name,
        model=model_title(study.source),
        limits=study.limits(entries, study.primary_text),
        seeds=study.seeds(entries),
    )
    return Table("claims", columns=columns, rows=rows, **words)


def _cells(claim: dict[str, Any], entry: dict[str, Any]) -> dict:
    low, high = entry["margin"] or (None, None)
    return {
        "id": claim["id"],
        "text": claim["text"],
        "paper": claim["paper_value"],
        "measure": None if entry["verdict"] == NOT_TESTED else entry["measure"],
        "value": Estimate(entry["value"], low, high) if entry["value"] is not None else None,
        "verdict": entry["verdict"],
        "scale": re.sub(f"^(not testable in this study|{NO_EVIDENCE}): ", "", entry["scale"]),  # the verdict says so
    }
