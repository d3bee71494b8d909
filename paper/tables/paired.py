"""Paired differences: each mixed row against its rivals at the same budget and against uniform 4 bit."""

from __future__ import annotations

from paper.comparisons import Pair, pair, saving
from paper.naming import (
    CONTROL_METHODS,
    MOVED_TABLE,
    RAMP_METHODS,
    TRANSFERRED,
    UNIFORM_METHODS,
    method_rank,
    model_title,
)
from paper.study import Entry, Study
from paper.tables.model import Column, Row, Table

_NOT_MIXED = ("float", "released", *UNIFORM_METHODS, *CONTROL_METHODS)


def comparisons(study: Study, model: str) -> list[tuple[Entry, Entry]]:
    """Which entries are compared: learned rows with mixed rivals of their budget and with uniform 4-bit rows.

    The knapsack, which spends no search, is held against the uniform rows too; RTN stands beside our own rows
    only, for length.
    """
    mixed = [e for e in study.find(model) if e.is_quantized and not e.is_uniform]
    uniform = [e for method in UNIFORM_METHODS for e in study.find(model, method, 4.0)]
    chosen = []
    ours = [e for e in mixed if e.method in RAMP_METHODS or e.method.endswith("_transfer") or e.method == "knapsack"]
    for entry in sorted(ours, key=lambda e: (-method_rank(e.method)[0], e.budget_bits)):
        rivals = [
            rival
            for rival in mixed
            if rival.method != entry.method
            and rival.budget_bits == entry.budget_bits
            and entry.method != "knapsack"
            and not (entry.method == "ramp_paper" and rival.method == "ramp")  # shown once, from the other side
            and (
                not rival.method.endswith("_transfer") or (entry.method in TRANSFERRED and rival.method == MOVED_TABLE)
            )
        ]
        full = entry.method == "ramp" or entry.method.endswith("_transfer")
        chosen += [(entry, rival) for rival in [*rivals, *(u for u in uniform if full or u.method != "rtn")]]
    return chosen


def paired_table(study: Study, model: str) -> Table:
    """KL difference and perplexity ratio with paired intervals, and the bytes saved, on held-out text."""
    text = study.primary_text
    pairs = [found for a, b in comparisons(study, model) if (found := pair(study, a, b, text))]
    columns = (
        Column("entry", "row", align="left"),
        Column("rival", "against", align="left"),
        Column("linear", "saved", "% linears", digits=1, scale=100),
        Column("file", "saved", "% file", digits=1, scale=100),
        Column("kl", "KL difference", "nats per token", digits=4, signed=True),
        Column("ppl", "perplexity ratio", digits=4),
        Column("reading", "reading (KL)", align="left"),
    )
    involved = [entry for found in pairs for entry in (found.entry, found.rival)]
    return Table(
        name=f"paired_{model}",
        title=(
            f"{model_title(model)}: paired differences on the same windows ({study.limits(involved, text)}; "
            f"{study.seeds(involved)}), with 95 % intervals of the paired block bootstrap."
        ),
        columns=columns,
        rows=tuple(Row(_cells(found), found.entry.title) for found in pairs),
        footnotes=(
            "Below 0 (KL) and below 1 (perplexity) favour the row on the left. Within noise: the interval of the KL "
            "difference holds 0. Seeds, where there are several, are resampled too. No correction for the number of "
            "comparisons is made.",
        ),
        absent="No two rows of this model share evaluated windows in the records.",
    )


def _cells(found: Pair) -> dict:
    return {
        "entry": found.entry.title,
        "rival": found.rival.title,
        "linear": saving(found.entry, found.rival, "bytes_linear"),
        "file": saving(found.entry, found.rival, "bytes_file"),
        "kl": found.kl_difference,
        "ppl": found.ppl_ratio,
        "reading": found.reading,
    }
