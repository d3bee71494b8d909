"""Table of the bytes of every row's file: the size ledger."""

from __future__ import annotations

from paper.naming import STATIC_MIXES, bits_title, model_title
from paper.study import Entry, Study
from paper.tables.captions import caption
from paper.tables.main import in_order, label
from paper.tables.model import Column, Row, Table, labels

CODED = (
    "Codes: bits per weight as packed, without scales and zero-points. Entropy: of the histogram of each linear's "
    "codes, weighted by weights: the least that a lossless coder with one table for a linear comes to, without that "
    "table. Lossless coding: what it would save of the bytes of the linears. Measured on packed rows of one run; a row "
    "has it where its linears have the same bytes."
)
"""Footnote where the entropy of codes is in the records."""

PARTS = ("bytes_linear", "bytes_embedding", "bytes_head", "bytes_other")
"""Parts that sum to bytes_file."""


def ledger_table(study: Study, model: str) -> Table:
    """Return bytes of linears, embedding, head, everything else and the file."""
    entries = [entry for entry in in_order(study.find(model, grid=None, stage=None)) if entry.mean("bytes_file")]
    columns = (
        *labels("row"),
        Column("bytes_linear", "linears", "bytes", digits=0),
        Column("bytes_embedding", "embedding", "bytes", digits=0),
        Column("bytes_head", "head", "bytes", digits=0),
        Column("bytes_other", "other", "bytes", digits=0),
        Column("bytes_file", "file", "bytes", digits=0),
        Column("bpw_file", "file", "bpw"),
        Column("codes", "codes", "bits"),
        Column("entropy", "their entropy", "bits"),
        Column("saving", "lossless coding", "% of linears", digits=1, scale=-100, signed=True),
        Column("produced", "made as", align="left", printed=False),
    )
    other_grid = any(entry.grid == "package" for entry in entries)
    packed = ", and rows on a package's own grid: what they take packed" if other_grid else ""
    coded = [_coded(study, entry) if entry.grid == "affine" else {} for entry in entries]
    notes = [CODED] if any(coded) else []
    words = caption("ledger", *notes, model=model_title(model), seeds=study.seeds(entries), packed=packed)
    rows = tuple(Row(_cells(study, entry) | more) for entry, more in zip(entries, coded, strict=True))
    return Table(f"ledger_{model}", columns=columns, rows=rows, **words).filled()


def _coded(study: Study, entry: Entry) -> dict[str, float]:
    """Return the cells on lossless coding of a row, means over the rows measured that have the bytes of one of its own.

    Another run of a search may have found another allocation, whose codes are not this row's.
    """
    rows = study.rows_of(entry, "entropy", ("model", "method", "budget_bits"))
    if rows is None:
        return {}
    rows = rows[rows["bytes_linear"].isin(entry.records["bytes_linear"])]
    means = rows[["bits_stored", "bits_entropy", "saving"]].mean()
    return dict(zip(("codes", "entropy", "saving"), means.tolist(), strict=True)) if len(rows) else {}


def _cells(study: Study, entry: Entry) -> dict:
    plain = not entry.is_quantized
    cells: dict = {part: entry.mean(part) for part in (*PARTS, "bytes_file", "bpw_file")}
    bits = "" if plain or entry.method in STATIC_MIXES else f", {bits_title(entry.budget_bits)} bits"
    bits += f", {entry.track} track" if entry.restored else ""
    produced = "" if plain or "produced" not in entry.records else entry.records["produced"].iloc[0]
    return cells | {
        "row": label(study, entry) + bits,
        "produced": str(produced or ""),
    }
