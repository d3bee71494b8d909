"""The paper's claims as a sheet of the results page, a line of a forest plot each."""

from __future__ import annotations

from typing import Any

from paper.claims import CLAIMS_FILE, limit_words, read_claims_file
from paper.page.sheet import Cell, Column, Line, Sheet
from paper.study import Study

COLUMNS = (
    Column("id", "claim"),
    Column("text", "what the paper says"),
    Column("verdict", "verdict"),
    Column("value", "value, 95 % interval", "estimate", 3, "of the measure named in this row"),
    Column("forest", "beside its limit", "forest", 3,
           "every line has a scale of its own; left of the limit (the middle) the claim holds"),
    Column("limit", "holds if", help="the whole interval has to lie there"),
    Column("measure", "measured here"),
    Column("scale", "scale or reason"),
    Column("paper", "paper's figure", help="shown, never compared"),
)  # fmt: skip


def claims_sheet(study: Study) -> Sheet | None:
    """Return a line per judged claim; None where no claim of the paper was judged."""
    rules = {claim["id"]: claim for claim in read_claims_file(CLAIMS_FILE)}
    judged = [entry for entry in study.claims or [] if entry["id"] in rules]
    if not any(entry["value"] is not None for entry in judged):
        return None
    lines = [Line(_cells(entry, rules[entry["id"]]), [], None, _behind(entry)) for entry in judged]
    note = (
        "Claims of the RAMP paper, tested by analogues: each line measures something else, so lines are compared with "
        "their limits and not with one another."
    )
    return Sheet("claims", "Claims of the paper", note, COLUMNS, lines, ("verdict",))


def _cells(entry: dict[str, Any], claim: dict[str, Any]) -> dict[str, Cell]:
    direction, limit = next(iter(claim["rule"].items()))
    low, high = entry["margin"] or (None, None)
    value = None if entry["value"] is None else [entry["value"], low, high]
    sign = 1.0 if direction == "below" else -1.0
    return {
        "id": claim["id"],
        "text": claim["text"],
        "paper": claim["paper_value"],
        "limit": limit_words(claim),
        "value": value,
        "forest": None if value is None else [*value, float(limit), sign],
        "verdict": entry["verdict"],
        "measure": entry["measure"],
        "scale": entry["scale"],
    }


def _behind(entry: dict[str, Any]) -> dict[str, str]:
    return {"rows": ", ".join(entry["rows"])} if entry["rows"] else {}
