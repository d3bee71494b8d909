"""Content of the results page as plain data: its sheets, its plots, and the source of each number."""

from __future__ import annotations

from typing import Any

from paper.evidence import shortages
from paper.outcome import outcome_lines
from paper.page.claims import claims_sheet
from paper.page.curves import league_panels
from paper.page.files import gguf_sheet
from paper.page.maps import allocation_maps
from paper.page.origin import Origin
from paper.page.raw import raw_sheet
from paper.page.rows import rows_sheet
from paper.study import Study
from ramp.records.schema import NO_EVIDENCE

LINKED = ("windows", "items", "allocations", "episodes", "activations", "league_windows", "folding_windows",
          "banks_windows", "tuning_windows", "leakage_windows")  # fmt: skip
"""Tables too long to be read on a page: it names their files."""


def content(study: Study, origin: Origin) -> dict[str, Any]:
    """Return all of the page. A part without records is None or empty, and the page leaves it out."""
    sheets = {
        "rows": rows_sheet(study, origin),
        "claims": claims_sheet(study) if study.ran_ramp else None,
        "gguf": gguf_sheet(study),
    }
    raw = [raw_sheet(name, frame) for name, frame in study.frames.items() if name not in LINKED and len(frame)]
    return {
        "title": f"Results of the study {study.name}",
        "missing": shortages(study),
        "outcome": [line for line in outcome_lines(study) if not line.startswith(NO_EVIDENCE)],  # the banner says it
        "origin": origin.about("records"),
        **{name: sheet and sheet.data(origin) for name, sheet in sheets.items()},
        "maps": allocation_maps(study, origin),
        "league": league_panels(study, origin),
        "raw": [sheet.data(origin) for sheet in raw],
        "linked": [origin.about(name)["file"] for name in LINKED if study.frame(name) is not None],
    }
