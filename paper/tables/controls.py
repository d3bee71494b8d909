"""Controls at equal bytes: uniform rows with smaller groups beside mixed ones, and rows in two storage tracks."""

from __future__ import annotations

from paper.comparisons import Pair, pair, saving
from paper.naming import CONTROL_METHODS, model_title
from paper.study import Entry, Study
from paper.tables.model import Column, Row, Table

NEAR = 0.01
"""Largest difference in bytes_linear, relative, at which two rows are called equally large."""


def equally_large(study: Study, model: str) -> list[tuple[Entry, Entry]]:
    """Every mixed row with every uniform row of smaller groups whose linears take the same bytes, within ``NEAR``."""
    plain = ("float", "released", *CONTROL_METHODS)
    mixed = [entry for entry in study.find(model) if entry.method not in plain and not entry.is_uniform]
    controls = [entry for method in CONTROL_METHODS for entry in study.find(model, method)]
    return [
        (entry, control)
        for control in controls
        for entry in mixed
        if (share := saving(entry, control, "bytes_linear")) is not None and abs(share) <= NEAR
    ]


def controls_table(study: Study, model: str) -> Table:
    """KL difference and perplexity ratio, paired, of mixed rows against smaller groups at equal bytes."""
    text = study.primary_text
    pairs = [found for a, b in equally_large(study, model) if (found := pair(study, a, b, text))]
    involved = [entry for found in pairs for entry in (found.entry, found.rival)]
    return Table(
        name=f"controls_{model}",
        title=(
            f"{model_title(model)}: the same bytes spent on widths (left) or on smaller groups (right); paired "
            f"differences on {study.limits(involved, text)}; {study.seeds(involved)}; 95 % intervals of the paired "
            "block bootstrap."
        ),
        columns=(
            Column("entry", "row", align="left"),
            Column("rival", "against", align="left"),
            Column("mb", "linears", "MB"),
            Column("linear", "saved", "% linears", digits=2, scale=100),
            Column("kl", "KL difference", "nats per token", digits=4, signed=True),
            Column("ppl", "perplexity ratio", digits=4),
            Column("reading", "reading (KL)", align="left"),
        ),
        rows=tuple(Row(_pair_cells(found), found.rival.title) for found in pairs),
        footnotes=(
            f"Rows are paired where their linears differ by {100 * NEAR:g} % of bytes at most. Below 0 (KL) and below "
            "1 (perplexity) favour the mixed row. All share AWQ folds chosen at the study's own group size, but for "
            "plain GPTQ, which has none.",
        ),
        absent="No mixed row of this model is as large as a uniform row with smaller groups in this run.",
    )


def _pair_cells(found: Pair) -> dict:
    size = found.entry.mean("bytes_linear")
    return {
        "entry": found.entry.title,
        "rival": found.rival.title,
        "mb": None if size is None else size / 1e6,
        "linear": saving(found.entry, found.rival, "bytes_linear"),
        "kl": found.kl_difference,
        "ppl": found.ppl_ratio,
        "reading": found.reading,
    }


def tracks_table(study: Study, model: str) -> Table:
    """Rows that were stored in a second track, each beside itself in the study's own."""
    found = []
    for other in (entry for entry in study.find(model, grid=None, stage=None) if entry.restored):
        own = [e for e in study.find(model, other.method, other.budget_bits) if e.group_size == other.group_size]
        found += [(entry, other.title) for entry in (*own, other)]
    text = study.primary_text
    return Table(
        name=f"tracks_{model}",
        title=(
            f"{model_title(model)}: the same quantized linears with embedding and head in two storage tracks "
            f"({study.limits([entry for entry, _ in found], text)})."
        ),
        columns=(
            Column("row", "row", align="left"),
            Column("track", "embedding and head", align="left"),
            Column("embedding", "embedding", "MB"),
            Column("head", "head", "MB"),
            Column("linear", "linears", "MB"),
            Column("file", "file", "MB"),
            Column("bpw", "file", "bpw"),
            Column("ppl", "perplexity"),
            Column("kl", "KL", "nats", digits=4),
        ),
        rows=tuple(Row(_track_cells(study, entry, text), group) for entry, group in found),
        footnotes=("Linears are the same to the bit; a head of 0 MB is tied to the embedding.",),
        absent="No row of this model was stored in a second track in this run.",
    )


def _track_cells(study: Study, entry: Entry, text: str) -> dict:
    sizes = {part: entry.mean(f"bytes_{part}") for part in ("embedding", "head", "linear", "file")}
    return {
        "row": entry.title.removesuffix(f", {entry.track} track"),
        "track": {"q8_0": "Q8_0", "fp16": "float16"}.get(entry.track, entry.track),
        **{part: None if size is None else size / 1e6 for part, size in sizes.items()},
        "bpw": entry.mean("bpw_file"),
        "ppl": study.measured(entry, text, "ppl"),
        "kl": study.measured(entry, text, "kl"),
    }
