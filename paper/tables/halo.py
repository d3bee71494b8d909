"""Checks of the exported GGUF files against the plan and against stock llama.cpp."""

from __future__ import annotations

from paper.study import Study
from paper.tables.model import Column, Row, Table


def halo_table(study: Study) -> Table:
    """One line per file and check."""
    frame = study.frame("halo")
    lines = [] if frame is None else frame.to_dict("records")
    columns = (
        Column("file", "file", align="left"),
        Column("check", "check", align="left"),
        Column("value", "measured"),
        Column("limit", "limit"),
        Column("ok", "holds", align="left"),
    )
    failed = sum(not line["ok"] for line in lines)
    return Table(
        name="halo",
        title=f"HALO: {len(lines)} checks of the exported files, {failed} failed (CPU build of stock llama.cpp).",
        columns=columns,
        rows=tuple(Row(_cells(line), line["file"]) for line in lines),
        absent="No GGUF file was exported in this run.",
    )


def _cells(line: dict) -> dict:
    return {
        "file": str(line["file"]).rsplit("/", 1)[-1],
        "check": line["check"].replace("_", " "),
        "value": _short(line["value"]),
        "limit": _short(line["limit"]),
        "ok": bool(line["ok"]),
    }


def _short(value: float | None) -> str | None:
    if value is None or value != value:
        return None
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4g}"
