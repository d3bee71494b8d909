"""Table of rows in two storage tracks of embedding and head."""

from __future__ import annotations

from paper.naming import model_title
from paper.study import Entry, Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table

PARTS = ("embedding", "head", "linear", "file")


def tracks_table(study: Study, model: str) -> Table:
    """Return the rows that were stored in a second track, each below itself in the study's own."""
    found = []
    for other in (entry for entry in study.find(model, grid=None, stage=None) if entry.restored):
        own = [e for e in study.find(model, other.method, other.budget_bits) if e.group_size == other.group_size]
        found += [(entry, other.title) for entry in (*own, other)]
    limits = study.limits([entry for entry, _ in found], study.primary_text)
    return Table(
        f"tracks_{model}",
        columns=(
            Column("row", "row", align="left"),
            Column("track", "embedding and head", align="left"),
            Column("embedding", "embedding", "MB", scale=1e-6),
            Column("head", "head", "MB", scale=1e-6),
            Column("linear", "linears", "MB", scale=1e-6),
            Column("file", "file", "MB", scale=1e-6),
            Column("bpw", "file", "bpw"),
            Column("ppl", "perplexity"),
            Column("kl", "KL", "nats", digits=4),
        ),
        rows=tuple(Row(_cells(study, entry), group) for entry, group in found),
        **caption("tracks", model=model_title(model), limits=limits),
    )


def _cells(study: Study, entry: Entry) -> dict:
    return {
        "row": entry.title.removesuffix(f", {entry.track} track"),
        "track": {"q8_0": "Q8_0", "fp16": "float16"}.get(entry.track, entry.track),
        **{part: entry.mean(f"bytes_{part}") for part in PARTS},
        "bpw": entry.mean("bpw_file"),
        **{what: study.measured(entry, study.primary_text, what) for what in ("ppl", "kl")},
    }
