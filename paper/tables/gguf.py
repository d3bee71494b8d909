"""Table of files at the bytes of llama.cpp's mixes: every mix with and without an importance matrix, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paper.banks import spread_notes
from paper.gguf import Files, file_title
from paper.naming import model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Cell, Column, Row, Table, estimate_of, finite_or_none, labels

ONE_BANK = (
    "Files of a model are of one bank: how far another draw of calibration text moves a ratio is in no interval here."
)
"""Footnote of every table of files."""

SPEED = (
    "Tokens a second and peak memory are of llama.cpp on the processor, from one run, and noisy: what else the machine "
    "did is in them. They order files of one table at best."
)
"""Footnote of the columns that no printed page has."""


def gguf_table(study: Study, tuned: bool = False) -> Table:
    """Return one line per file: the mixes by their bytes, and below each the file of ours that is compared with it.

    With ``tuned``, of all files with tuned scales.
    """
    files, name = Files(study, tuned), "gguf_tuned" if tuned else "gguf"
    rows: list[Row] = []
    for model in files.models:
        for mix, lines in files.by_mix(model):
            group = f"{model} {mix}"
            rows += [Row(_cells(line), group) for line in lines]
            for beside in files.ours(model, lines):
                ratios = {
                    "ratio_matrix" if matrix else "ratio_plain": estimate_of(
                        line, "kl_ratio", "ratio_low", "ratio_high"
                    )
                    for matrix, line in beside.items()
                }
                rows.append(Row(_cells(next(iter(beside.values()))) | ratios, group))
    columns = (
        *labels("model"),
        Column("file", "file", align="left"),
        Column("size", "size", "MB", digits=2, scale=1e-6),
        Column("kl", "KL", "1e-3 nats", digits=3, scale=1e3),
        Column("ratio_matrix", "KL ratio", "to imatrix", digits=3),
        Column("ratio_plain", "KL ratio", "to no matrix", digits=3),
        Column("ppl", "perplexity", "ratio", digits=4),
        Column("same", "same token", "%", digits=1, scale=100),
        Column("prompt", "prompt", "tokens/s", digits=0, printed=False),
        Column("generation", "generation", "tokens/s", digits=1, printed=False),
        Column("memory", "memory", "MB", digits=0, scale=1e-6, printed=False),
    )
    floors = spread_notes(study, files.models)
    notes = [ONE_BANK, *floors] if rows else []
    return Table(
        name, columns=columns, rows=tuple(rows), aside=(SPEED,) if rows else (), **caption(name, *notes)
    ).filled()


def _cells(line: Mapping[str, Any]) -> dict[str, Cell]:
    return {
        "model": model_title(line["model"]),
        "file": file_title(line),
        "size": int(line["bytes_file"]),
        "kl": estimate_of(line, "kl", "kl_low", "kl_high"),
        "ppl": finite_or_none(line["ppl_ratio"]),
        "same": finite_or_none(line["top1"]),
        "prompt": finite_or_none(line["prompt_tokens_per_s"]),
        "generation": finite_or_none(line["generation_tokens_per_s"]),
        "memory": finite_or_none(line["peak_rss_bytes"]),
    }
