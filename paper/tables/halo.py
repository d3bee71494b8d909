"""Table of the checks of exported GGUF files against the plan and against stock llama.cpp, one line per file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paper.naming import model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table, labels

PERPLEXITY = "perplexity_difference"
"""The check whose value is shown; of the others only whether they held."""


def halo_table(study: Study) -> Table:
    """Return, per file, how many checks held, which failed and by how much, and how far the perplexities lie apart."""
    exported, beside_mixes = (study.frame(name) for name in ("halo", "gguf_checks"))
    by_file: dict[str, list[dict[str, Any]]] = {}
    for line in [] if exported is None else exported.to_dict("records"):
        by_file.setdefault(str(line["file"]).rsplit("/", 1)[-1], []).append(line)
    for line in [] if beside_mixes is None else beside_mixes.to_dict("records"):
        by_file.setdefault(f"{line['file']} ({model_title(line['model'])})", []).append(line)
    lines = [line for checks in by_file.values() for line in checks]
    columns = (
        *labels("file"),
        Column("held", "checks that hold", align="left"),
        Column("difference", "perplexity difference", "%", digits=3, scale=100),
        Column("limit", "limit", "%", digits=1, scale=100),
        *labels("failed"),
    )
    names = ", ".join(sorted({line["check"].replace("_", " ") for line in lines}))
    halo, mixes = (0 if frame is None else len(frame) for frame in (exported, beside_mixes))
    failed = sum(not line["ok"] for line in lines)
    words = caption("halo", halo=halo, mixes=mixes, failed=failed, names=names)
    rows = tuple(Row(_cells(file, checks)) for file, checks in by_file.items())
    return Table("halo", columns=columns, rows=rows, **words).filled()


def _cells(file: str, checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    failed = [check for check in checks if not check["ok"]]
    cells = {
        "file": file,
        "held": f"{len(checks) - len(failed)} of {len(checks)}",
        "failed": "; ".join(
            f"{check['check'].replace('_', ' ')}: {check['value']:.4g} (limit {check['limit']:.4g})" for check in failed
        ),
    }
    for check in checks:
        if check["check"] == PERPLEXITY:
            cells |= {"difference": float(check["value"]), "limit": float(check["limit"])}
    return cells
