"""Tables of paired differences: mixed rows and rivals of their budget, uniform 4 bit, and controls of equal bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paper.banks import spread_note
from paper.budgets import low_budget, paper_budget
from paper.comparisons import Pair, pair, saving
from paper.intervals import holm
from paper.naming import (
    CONTROL_METHODS,
    MOVED_TABLE,
    RAMP_METHODS,
    REFERENCE_BITS,
    TRANSFERRED,
    UNIFORM_METHODS,
    method_rank,
    model_title,
)
from paper.study import Entry, Study
from paper.tables.captions import POWER, caption
from paper.tables.model import Column, Row, Table
from ramp.methods.names import UNQUANTIZED, trained_by

NEAR = 0.01
"""Largest relative difference in bytes_linear at which two rows count as equally large."""


def equally_large(study: Study, model: str) -> list[tuple[Entry, Entry]]:
    """Return every mixed row with every uniform row of smaller groups whose linears take the same bytes (``NEAR``)."""
    plain = (*UNQUANTIZED, *CONTROL_METHODS)
    mixed = [entry for entry in study.find(model) if entry.method not in plain and not entry.is_uniform]
    controls = [entry for method in CONTROL_METHODS for entry in study.find(model, method)]
    return [
        (entry, control)
        for control in controls
        for entry in mixed
        if (share := saving(entry, control, "bytes_linear")) is not None and abs(share) <= NEAR
    ]


def comparisons(study: Study, model: str) -> list[tuple[Entry, Entry]]:
    """Return the pairs of entries: learned rows with mixed rivals of their budget and with uniform 4-bit rows.

    The knapsack, which spends no search, is compared with the uniform rows too; RTN with our own rows alone, for
    length.
    """
    mixed = [e for e in study.find(model) if e.is_quantized and not e.is_uniform]
    uniform = [e for method in UNIFORM_METHODS for e in study.find(model, method, 4.0)]
    chosen = []
    ours = [e for e in mixed if e.method in RAMP_METHODS or trained_by(e.method) or e.method == "knapsack"]
    for entry in sorted(ours, key=lambda e: (-method_rank(e.method)[0], e.budget_bits)):
        rivals = [
            rival
            for rival in mixed
            if rival.method != entry.method
            and rival.budget_bits == entry.budget_bits
            and entry.method != "knapsack"
            and not (entry.method == "ramp_paper" and rival.method == "ramp")  # shown once, from the other side
            and (not trained_by(rival.method) or (entry.method in TRANSFERRED and rival.method == MOVED_TABLE))
        ]
        full = entry.method == "ramp" or trained_by(entry.method)
        chosen += [(entry, rival) for rival in [*rivals, *(u for u in uniform if full or u.method != "rtn")]]
    return chosen


def paired_table(study: Study, model: str) -> Table:
    """Return KL difference and perplexity ratio with paired intervals, and the bytes saved, on held-out text."""
    columns = (
        Column("linear", "saved", "% linears", digits=1, scale=100),
        Column("file", "saved", "% file", digits=1, scale=100, printed=False),
    )
    pairs = _pairs(study, comparisons(study, model))
    return _table("paired", study, model, pairs, columns, [found.entry.title for found in pairs])


HEADLINE = (
    ("ramp", "knapsack"), ("ramp", "awq_gptq"), ("ramp", "awq"), ("ramp", "gptq"), ("ramp_paper", "random_search"),
    ("ramp_paper", "knapsack"), ("knapsack", "awq_gptq"),
)  # fmt: skip
"""Comparisons of the main text at the smallest budget of the searches: (row, rival); uniform rivals have 4 bits."""

AT_THE_PAPERS_SAVING = (("ramp", "knapsack"), ("ramp", "gptq"), ("ramp", "awq"), ("ramp", "awq_gptq"))
"""The same at the budget that saves about as much as the paper says, where that is another one."""


def headline_pairs_table(study: Study) -> Table:
    """Return the dozen comparisons of the source model that the main text is about, the last at equal bytes."""
    low, papers = low_budget(study), paper_budget(study)
    wanted = [(low, *names) for names in HEADLINE] if low is not None else []
    wanted += [(papers, *names) for names in AT_THE_PAPERS_SAVING] if papers not in (None, low) else []
    wanted += [(REFERENCE_BITS, "knapsack", "awq_gptq")] if low != REFERENCE_BITS else []
    rows = []
    for budget, method, rival in wanted:
        bits = REFERENCE_BITS if rival in UNIFORM_METHODS else budget
        found = [study.one(study.source, name, at) for name, at in ((method, budget), (rival, bits))]
        if found[0] and found[1]:
            rows.append((found[0], found[1]))
    pairs, family = _pairs(study, rows), _pairs(study, comparisons(study, study.source))
    saved = (Column("linear", "saved", "% linears", digits=1, scale=100),)
    groups = [str(found.entry.budget_bits) for found in pairs]
    table = _table("headline_pairs", study, study.source, pairs, saved, groups, family)
    return replace(table, name="headline_pairs", aside=()).only("entry", "rival", "linear", "kl", "ppl", "reading")


def controls_table(study: Study, model: str) -> Table:
    """Return KL difference and perplexity ratio, paired, of mixed rows and smaller groups at equal bytes."""
    columns = (
        Column("bytes", "linears", "MB", scale=1e-6, printed=False),
        Column("linear", "saved", "% linears", digits=2, scale=100),
    )
    pairs = _pairs(study, equally_large(study, model))
    return _table("controls", study, model, pairs, columns, [found.rival.title for found in pairs], near=100 * NEAR)


def _pairs(study: Study, chosen: list[tuple[Entry, Entry]]) -> list[Pair]:
    return [found for a, b in chosen if (found := pair(study, a, b, study.primary_text))]


def _corrected(pairs: Sequence[Pair]) -> dict[tuple[str, str], float]:
    """Return Holm's p values by the names of the rows."""
    values = holm([found.kl_p for found in pairs])
    return {(found.entry.row, found.rival.row): p for found, p in zip(pairs, values, strict=True)}


def _table(
    kind: str,
    study: Study,
    model: str,
    pairs: list[Pair],
    sizes: tuple[Column, ...],
    groups: list[str],
    family: Sequence[Pair] = (),
    **values: float,
) -> Table:
    """Return the table of pairs; p values are corrected for the number of lines of the table, or of ``family``."""
    involved = [entry for found in pairs for entry in (found.entry, found.rival)]
    limits, seeds = study.limits(involved, study.primary_text), study.seeds(involved)
    corrected = _corrected(family or pairs)
    rows = [
        {
            "entry": found.entry.title,
            "rival": found.rival.title,
            "bytes": found.entry.mean("bytes_linear"),
            "linear": saving(found.entry, found.rival, "bytes_linear"),
            "file": saving(found.entry, found.rival, "bytes_file"),
            "kl": found.kl_difference,
            "ppl": found.ppl_ratio,
            "detectable": found.detectable,
            "p": "< 0.001" if p < 0.001 else f"{p:.3f}" if p == p else None,
            "reading": found.reading + (" (alone)" if p >= 0.05 and found.reading in ("better", "worse") else ""),
        }
        for found in pairs
        for p in [corrected[found.entry.row, found.rival.row]]
    ]
    columns = (
        Column("entry", "row", align="left"),
        Column("rival", "against", align="left"),
        *sizes,
        Column("kl", "KL difference", "nats per token", digits=4, signed=True),
        Column("detectable", "detectable", "nats per token", digits=4, printed=False),
        Column("ppl", "perplexity ratio", digits=4),
        Column("reading", "reading (KL)", align="left"),
        Column("p", "p", "Holm"),
    )
    floor = spread_note(study, model)
    words = caption(kind, *([floor] if floor else []), model=model_title(model), limits=limits, seeds=seeds, **values)
    rows_of = tuple(map(Row, rows, groups))
    return Table(f"{kind}_{model}", columns=columns, rows=rows_of, aside=(POWER,), **words)
