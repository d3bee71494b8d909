"""Where the bytes of a file lie: the size ledger of every row, to the byte."""

from __future__ import annotations

from paper.naming import STATIC_MIXES, bits_title, model_title
from paper.study import Entry, Study
from paper.tables.main import in_order, label
from paper.tables.model import Column, Row, Table

PARTS = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")
"""Parts that sum to bytes_file."""


def ledger_table(study: Study, model: str) -> Table:
    """Bytes of linears, embedding, head, everything else and the file, with GB and GiB."""
    entries = [entry for entry in in_order(study.find(model, grid=None, stage=None)) if entry.mean("bytes_file")]
    columns = (
        Column("row", "row", align="left"),
        Column("bytes_linear", "linears", "bytes", digits=0),
        Column("bytes_embedding", "embedding", "bytes", digits=0),
        Column("bytes_head", "head", "bytes", digits=0),
        Column("bytes_other", "other", "bytes", digits=0),
        Column("bytes_file", "file", "bytes", digits=0),
        Column("gb", "file", "GB", digits=4),
        Column("gib", "file", "GiB", digits=4),
        Column("bpw_file", "file", "bpw"),
        Column("produced", "made as", align="left"),
    )
    rows = tuple(Row(_cells(study, entry)) for entry in entries)
    other_grid = any(entry.grid == "package" for entry in entries)
    packed = ", and rows on a package's own grid: what they take packed" if other_grid else ""
    return Table(
        name=f"ledger_{model}",
        title=(
            f"{model_title(model)}: where the bytes of each file lie (means over seeds where there are several; "
            f"{study.seeds(entries)})."
        ),
        columns=columns,
        rows=rows,
        footnotes=(
            f"Sizes are those of files on disk, except the float row: what 16 bits per weight would take{packed}. "
            "Other: norms, biases, header and alignment. A head of 0 bytes is tied to the embedding. GB = 1e9 bytes, "
            "GiB = 2^30 bytes.",
        ),
        absent="No row of the records states its bytes.",
    ).filled()


def _cells(study: Study, entry: Entry) -> dict:
    size = entry.mean("bytes_file") or 0.0
    plain = entry.method in ("float", "released")
    cells: dict = {part: entry.mean(part) for part in (*PARTS, "bytes_file", "bpw_file")}
    bits = "" if plain or entry.method in STATIC_MIXES else f", {bits_title(entry.budget_bits)} bits"
    bits += f", {entry.track} track" if entry.restored else ""
    produced = "" if plain or "produced" not in entry.records else entry.records["produced"].iloc[0]
    return cells | {
        "row": label(study, entry) + bits,
        "gb": size / 1e9,
        "gib": size / 2**30,
        "produced": str(produced or ""),
    }
